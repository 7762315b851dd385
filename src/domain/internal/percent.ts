/** Rounds a fraction down to whole per cents. What is added makes up for binary fractions: 0.29 times 100 is below 29. */
export const percent = (fraction: number): number => Math.floor(fraction * 100 + 1e-9)
