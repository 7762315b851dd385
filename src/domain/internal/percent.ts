/** Rounds a fraction down to a whole percentage. The epsilon corrects binary fractions: 0.29 times 100 is below 29. */
export const percent = (fraction: number): number => Math.floor(fraction * 100 + 1e-9)
