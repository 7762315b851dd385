/**
 * What is remembered of one transition.
 *
 * @module
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { QueryEvent } from "./QueryEvent.ts"
import * as QueryState from "./QueryState.ts"
import * as Reason from "./Reason.ts"

/**
 * Schema for entries of a history.
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
 * - `at`: when, by the clock of the store, to the millisecond.
 * - `version`: that of the record afterwards, which is the fence of the claim where it was one.
 * - `event`: what happened; absent where another system moved the query, and it was seen later.
 * - `holder`: who claimed the query by it, or held it until then.
 * - `reason`: why, where the new state carries a reason.
 *
 * @category models
 * @since 0.1.0
 */
export interface HistoryEntry extends Schema.Schema.Type<typeof HistoryEntry> {}

/**
 * Tells people what happened, such as "Executing -> Completed (by host-1 4711)".
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = ({ from, holder, reason, to }: HistoryEntry): string =>
  `${from} -> ${to}${holder === undefined ? "" : ` (by ${holder})`}${
    reason === undefined || reason._tag === "Unrecorded" ? "" : `: ${Reason.format(reason)}`
  }`
