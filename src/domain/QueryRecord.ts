/**
 * Record of one query in a store.
 *
 * @module
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Progress from "./Progress.ts"
import * as QueryKey from "./QueryKey.ts"
import * as QueryState from "./QueryState.ts"

/**
 * Schema for what a query waits for.
 *
 * @category schemas
 * @since 0.1.0
 */
export const WaitsFor = Schema.Struct({ key: QueryKey.QueryKey, version: Schema.Int })

/**
 * Another query that the holder of a claim waits for, and the version that it had then. Once it has another version, the
 * holder no longer waits for that.
 *
 * @category models
 * @since 0.1.0
 */
export interface WaitsFor extends Schema.Schema.Type<typeof WaitsFor> {}

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
  attempts: Schema.Int,
  changedAt: Schema.optionalKey(Schema.DateTimeUtc),
  progress: Schema.optionalKey(Progress.Progress),
  traceparent: Schema.optionalKey(Schema.String),
  keptUntil: Schema.optionalKey(Schema.DateTimeUtc),
  waitsFor: Schema.optionalKey(Schema.Array(WaitsFor)),
  label: Schema.optionalKey(Schema.String)
})

/**
 * State of a query, and the transition that led to it.
 *
 * **Details**
 *
 * - `version` grows with every transition of the query and never repeats, not even after the record was deleted and
 *   made anew: it is the larger of the previous version plus one and the time of the store in microseconds. A query
 *   without a record has version 0.
 * - `attempts` counts how often the query was executed since it was last Completed or reset to Known. An execution that was
 *   interrupted is not counted. A reset whose lease lapsed is, since its purge may have ended the process. A take-over by `run` resets and executes in one step, and so goes on counting.
 * - `changedAt` is the time of that transition by the clock of the store, in milliseconds. Absent if there is no record.
 * - `progress` is the progress that the holder reported. Absent if it reported none, and after the next transition.
 *   Progress is not a transition: the version stays the same.
 * - `traceparent` is the span of the last claim, in the format of W3C Trace Context. Absent if that was not traced.
 * - `keptUntil` is when the record expires: the query is Known then. Absent if the record has no time to live.
 * - `waitsFor` lists the queries that the holder waits for within its work. Absent if there are none.
 * - `label` says for people what the query is, where its id does not. Absent if no claim gave one.
 *
 * @category models
 * @since 0.1.0
 */
export interface QueryRecord extends Schema.Schema.Type<typeof QueryRecord> {}

/**
 * A record whose outcome is decided: its query is not pending.
 *
 * @category models
 * @since 0.1.0
 */
export interface Determinate extends QueryRecord {
  readonly state: QueryState.Determinate
}

/**
 * Checks whether the outcome is decided: the query is not pending.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isDeterminate = (self: QueryRecord): self is Determinate => QueryState.isDeterminate(self.state)

/**
 * Creates the record of a query that has none in the store: Known, version 0.
 *
 * @category constructors
 * @since 0.1.0
 */
export const absent = (key: QueryKey.QueryKey): QueryRecord => ({
  key,
  state: QueryState.known,
  version: 0,
  attempts: 0
})

/**
 * Formats a record for people.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: QueryRecord): string =>
  `query ${QueryKey.format(self.key)} ${QueryState.format(self.state)}${
    self.progress === undefined ? "" : `, ${Progress.format(self.progress)}`
  }`
