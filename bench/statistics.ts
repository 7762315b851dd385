/** What is told of many samples. */

/** The value below which a part of the samples lies; 0.5 is the median. */
export const quantile = (samples: ReadonlyArray<number>, part: number): number => {
  const sorted = samples.toSorted((left, right) => left - right)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

export const median = (samples: ReadonlyArray<number>): number => quantile(samples, 0.5)

/** The median of what pairs of samples, taken one after the other, are to each other. */
export const medianRatio = (pairs: ReadonlyArray<readonly [number, number]>): number =>
  median(pairs.map(([left, right]) => left / right))
