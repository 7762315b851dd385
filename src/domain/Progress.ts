/**
 * Progress of the work on a query.
 *
 * @module
 * @since 0.1.0
 */
import type * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { cut } from "./internal/cut.ts"
import { percent } from "./internal/percent.ts"
import { printable } from "./internal/printable.ts"

const Amount = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))

/**
 * Maximum length of a note: 256 characters.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxNoteLength = 256

/**
 * Schema for progress.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Progress = Schema.Struct({
  done: Amount,
  total: Schema.optionalKey(Amount),
  note: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(maxNoteLength)))
})

/**
 * Progress of work, as its holder reports it.
 *
 * **Details**
 *
 * - `done`: how much is done, in any unit: rows, bytes, percent. Finite, and not negative.
 * - `total`: how much there is to do, in the same unit, if known. Finite, and not negative.
 * - `note`: text for people, at most `maxNoteLength` characters.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress extends Schema.Schema.Type<typeof Progress> {}

/**
 * Input of `make`; see `Progress`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Input {
  readonly done: number
  readonly total?: number | undefined
  readonly note?: string | undefined
}

const decode = Schema.decodeUnknownResult(Progress)

/**
 * Creates progress. A note that is too long is cut, a total that is not finite is left out as unknown, and one below what is
 * done becomes what is done. Fails if `done` is negative or not finite.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (input: Input): Result.Result<Progress, Schema.SchemaError> => decode(normalized(input))

// A caller without types can pass anything: the schema says what is wrong with it.
const normalized = (input: Input): unknown => {
  if (typeof input !== "object" || input === null) return input
  const { done, note } = input
  const total = clampedTotal(input)
  return {
    done: withoutNegativeZero(done),
    ...(total === undefined ? undefined : { total: withoutNegativeZero(total) }),
    ...(note === undefined ? undefined : { note: typeof note === "string" ? cut(note, maxNoteLength) : note })
  }
}

// An estimate that is wrong is no reason to fail the work.
const clampedTotal = ({ done, total }: Input): number | undefined => {
  if (typeof total !== "number") return total
  if (!Number.isFinite(total)) return undefined
  return total < done ? done : total
}

// JSON cannot represent a negative zero.
const withoutNegativeZero = (amount: number): number => amount === 0 ? 0 : amount

/**
 * Returns the fraction that is done, from 0 to 1, or `undefined` if the total is unknown.
 *
 * @category getters
 * @since 0.1.0
 */
export const fraction = ({ done, total }: Progress): number | undefined =>
  total === undefined || total === 0 ? undefined : Math.min(done / total, 1)

/**
 * Formats progress for people, such as "3 of 12 (25 %): joining".
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: Progress): string => {
  const part = fraction(self)
  const share = part === undefined ? "" : ` (${percent(part)} %)`
  return `${self.done}${self.total === undefined ? "" : ` of ${self.total}`}${share}${
    self.note === undefined ? "" : `: ${printable(self.note, maxNoteLength)}`
  }`
}
