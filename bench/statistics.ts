/** What is told of many samples. */
import { median, quantile } from "simple-statistics"

export { median, quantile }

export type Pair = readonly [ours: number, theirs: number]

/** The median of what pairs of samples, taken one after the other, are to each other; and between what most of them are. */
export const ratioOf = (pairs: ReadonlyArray<Pair>) => {
  const ratios = pairs.map(([ours, theirs]) => ours / theirs)
  return { ratio: median(ratios), low: quantile(ratios, 0.1), high: quantile(ratios, 0.9) }
}

export const show = (ratio: number): string => `${ratio.toFixed(2)} x`
export const count = (number: number): string => Math.round(number).toLocaleString("en")
export const millis = (number: number): string => `${number.toFixed(2)} ms`
