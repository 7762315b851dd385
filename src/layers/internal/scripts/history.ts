/** The last transitions of a query, in a capped stream beside its record. */
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { HistoryEntry } from "../../../domain/HistoryEntry.ts"
import * as QueryEvent from "../../../domain/QueryEvent.ts"
import * as QueryState from "../../../domain/QueryState.ts"
import { Reason } from "../../../domain/Reason.ts"
import type { HistoryOptions } from "../../../services/RedisStore.ts"
import { InvalidInput, RedisStoreError } from "../../../services/RedisStoreError.ts"
import { maxMillis, toMillis } from "../command.ts"

/** Why a state is what it is, as an entry has it. */
export const reasonIn = (state: QueryState.QueryState): Pick<HistoryEntry, "reason"> | undefined =>
  "reason" in state ? { reason: state.reason } : undefined

/** How much is kept of each query, and for how long after its last transition. */
export interface History {
  readonly length: number
  readonly retentionMillis: number
}

const maxLength = 10_000

const check = (options: HistoryOptions): Result.Result<History, InvalidInput> => {
  if (typeof options !== "object" || options === null) {
    return Result.fail(new InvalidInput({ issue: "a history must be an object" }))
  }
  const { length, retention = Duration.days(7) } = options
  const retentionMillis = toMillis(retention)
  if (!(Number.isInteger(length) && length >= 1 && length <= maxLength)) {
    return Result.fail(
      new InvalidInput({ issue: `the length of a history must be a whole number from 1 to ${maxLength}` })
    )
  }
  return retentionMillis > 0 && retentionMillis <= maxMillis
    ? Result.succeed({ length, retentionMillis })
    : Result.fail(new InvalidInput({ issue: "the retention of a history must be longer than zero and finite" }))
}

/** Checks the options of a history, where there are any. */
export const checkOption = (options: HistoryOptions | undefined): Effect.Effect<History | undefined, RedisStoreError> =>
  options === undefined ? Effect.undefined : Effect.mapError(
    Effect.fromResult(check(options)),
    (reason) => new RedisStoreError({ operation: "configure the store", reason })
  )

const Fields = Schema.Struct({
  s: Schema.String,
  v: Schema.FiniteFromString,
  t: Schema.FiniteFromString.pipe(Schema.decodeTo(Schema.DateTimeUtcFromMillis)),
  f: Schema.String,
  e: Schema.optionalKey(Schema.String),
  h: Schema.optionalKey(Schema.String),
  r: Schema.optionalKey(Schema.fromJsonString(Reason))
})

const decodeFields = Schema.decodeUnknownResult(Fields)
const checkEntry = Schema.decodeUnknownResult(Schema.toType(HistoryEntry))

const toEntry = (fields: ReadonlyArray<string>) =>
  decodeFields(Object.fromEntries(Arr.chunksOf(fields, 2))).pipe(
    Result.flatMap(({ e, f, h, r, s, t, v }) => {
      const to = QueryState.fromWireName(s)
      return checkEntry({
        at: t,
        version: v,
        from: QueryState.fromWireName(f),
        to,
        ...(e === undefined ? undefined : { event: QueryEvent.fromWireName(e) }),
        ...(h === undefined ? undefined : { holder: h }),
        ...(to === undefined ? undefined : reasonIn(QueryState.make(to, { reason: r })))
      })
    })
  )

/** Reads the entries of a history. Those that cannot be read, as of a newer version, are left out. */
export const decode = (entries: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<HistoryEntry> =>
  Arr.getSuccesses(entries.map(toEntry))
