/** Medians, ratios and how they are written. */
import { median, quantile } from "simple-statistics"

export { median, quantile }

export type Pair = readonly [ours: number, theirs: number]

export interface Ratio {
  readonly ratio: number
  /** Eight of ten pairs lie between these two. */
  readonly low: number
  readonly high: number
}

/** The median ratio of pairs of samples, each taken one after the other, and its spread. */
export const ratioOf = (pairs: ReadonlyArray<Pair>): Ratio => {
  const ratios = pairs.map(([ours, theirs]) => ours / theirs)
  return { ratio: median(ratios), low: quantile(ratios, 0.1), high: quantile(ratios, 0.9) }
}

/** How much faster ours is than theirs, from pairs of times. */
export const ratesOf = (times: ReadonlyArray<Pair>): Ratio => ratioOf(times.map(([ours, theirs]) => [theirs, ours]))

export const show = (ratio: number): string => `${ratio.toFixed(2)} x`
export const spread = ({ high, low }: Ratio): string => `${low.toFixed(2)} to ${high.toFixed(2)}`
export const count = (number: number): string => Math.round(number).toLocaleString("en")
export const millis = (number: number): string => `${number.toFixed(2)} ms`
