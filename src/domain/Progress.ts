/**
 * How far the work on a query has come.
 *
 * @module
 * @since 0.1.0
 */
import type * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { cut } from "./internal/cut.ts"
import { percent } from "./internal/percent.ts"

const Amount = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))

/**
 * The longest note that progress can have: 256 characters.
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
 * How far work has come, as its holder reports it.
 *
 * **Details**
 *
 * - `done`: how much is done, in whatever the work is counted in: rows, bytes, per cent. Finite, and not negative.
 * - `total`: how much there is to do, as far as that is known.
 * - `note`: what is being done, for people, at most `maxNoteLength` characters.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress extends Schema.Schema.Type<typeof Progress> {}

/**
 * What progress is made from; see `Progress`.
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
 * Creates progress; a note that is too long is cut. Fails where `done` or `total` is negative or not finite.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = ({ done, note, total }: Input): Result.Result<Progress, Schema.SchemaError> =>
  decode({
    // A negative zero would not survive being written as JSON.
    done: done + 0,
    ...(total === undefined ? undefined : { total: total + 0 }),
    ...(note === undefined ? undefined : { note: cut(note, maxNoteLength) })
  })

/**
 * The part that is done, from 0 to 1; `undefined` where the total is not known.
 *
 * @category getters
 * @since 0.1.0
 */
export const fraction = ({ done, total }: Progress): number | undefined =>
  total === undefined || total === 0 ? undefined : Math.min(done / total, 1)

/**
 * Tells people how far work has come, such as "3 of 12 (25 %): joining".
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: Progress): string => {
  const part = fraction(self)
  const share = part === undefined ? "" : ` (${percent(part)} %)`
  return `${self.done}${self.total === undefined ? "" : ` of ${self.total}`}${share}${
    self.note === undefined ? "" : `: ${self.note}`
  }`
}
