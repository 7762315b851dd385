/**
 * An entry of the history of a query: one transition.
 *
 * @module
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { printable } from "./internal/printable.ts"
import { QueryEvent } from "./QueryEvent.ts"
import * as QueryState from "./QueryState.ts"
import * as Reason from "./Reason.ts"

/**
 * Schema for history entries.
 *
 * @category schemas
 * @since 0.1.0
 */
export const HistoryEntry = Schema.Struct({
  at: Schema.DateTimeUtc,
  version: Schema.Int,
  event: Schema.optionalKey(QueryEvent),
  from: Schema.Literals(QueryState.tags),
  to: Schema.Literals(QueryState.tags),
  holder: Schema.optionalKey(Schema.String),
  reason: Schema.optionalKey(Reason.Reason)
})

/**
 * One transition of a query.
 *
 * **Details**
 *
 * - `at`: time of the transition by the clock of the store, in milliseconds.
 * - `version`: version of the record afterwards. If the transition was a claim, this is its fence.
 * - `event`: the event. Absent if another system moved the query and the store found that later.
 * - `holder`: holder of the new claim, or of the claim that ended.
 * - `reason`: reason of the new state, if that state carries one.
 *
 * @category models
 * @since 0.1.0
 */
export interface HistoryEntry extends Schema.Schema.Type<typeof HistoryEntry> {}

/**
 * Formats an entry for people, such as "Executing -> Completed (by host-1 4711)".
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = ({ from, holder, reason, to }: HistoryEntry): string =>
  `${from} -> ${to}${holder === undefined ? "" : ` (by ${printable(holder, Reason.maxLength.name)})`}${
    reason === undefined || reason._tag === "Unrecorded" ? "" : `: ${Reason.format(reason)}`
  }`
