/**
 * What a store knows of one query.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as QueryKey from "./QueryKey.ts"
import * as QueryState from "./QueryState.ts"

/**
 * Schema for records.
 *
 * @category schemas
 * @since 0.1.0
 */
export const QueryRecord = Schema.Struct({
  key: QueryKey.QueryKey,
  state: QueryState.QueryState,
  version: Schema.Int,
  changedAt: Schema.optionalKey(Schema.DateTimeUtc)
})

/**
 * State of a query, and which transition brought it there.
 *
 * **Details**
 *
 * - `version` grows with every transition of the query and never repeats, not even after the record was deleted and
 *   made anew: it is the larger of the previous version plus one and the time of the store in microseconds. A query
 *   without a record has version 0.
 * - `changedAt` is the time of that transition by the clock of the store, to the millisecond; absent where there is no
 *   record.
 *
 * @category models
 * @since 0.1.0
 */
export interface QueryRecord extends Schema.Schema.Type<typeof QueryRecord> {}

/**
 * Creates the record of a query that the store has none of: Known, version 0.
 *
 * @category constructors
 * @since 0.1.0
 */
export const absent = (key: QueryKey.QueryKey): QueryRecord => ({ key, state: QueryState.known, version: 0 })

/**
 * Tells people where a query stands.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: QueryRecord): string =>
  `query ${QueryKey.format(self.key)} ${QueryState.format(self.state)}`
