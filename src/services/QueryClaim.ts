/**
 * Claims on a query: the options of a claim, and the claim that is passed to the work.
 *
 * @module
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Progress from "../domain/Progress.ts"
import type * as QueryState from "../domain/QueryState.ts"
import type { RedisStoreError } from "./RedisStoreError.ts"

/**
 * The claim that is passed to the work: `QueryState.Claim`, and a way to report how far the work has come.
 *
 * **Details**
 *
 * - `report` shows progress in `record` and `changes`, without a transition. It sends at most one command every
 *   `reportInterval`, always with the latest progress. It does not wait for the store, and progress that cannot be sent is
 *   dropped. It fails with `InvalidInput` if `done` is negative or not finite.
 *
 * @category models
 * @since 0.1.0
 */
export interface QueryClaim extends QueryState.Claim {
  readonly report: (progress: Progress.Input) => Effect.Effect<void, RedisStoreError>
}

/**
 * How to claim a query.
 *
 * **Details**
 *
 * - `lease`: how long the claim holds if it is not renewed. A heartbeat renews it every third of that time.
 *   Default: `defaultLease`.
 * - `holder`: who holds the claim, 1 to 256 characters. Default: the name of this host and the id of this process.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly lease?: Duration.Input | undefined
  readonly holder?: string | undefined
}

/**
 * How to claim the query for a run.
 *
 * **Details**
 *
 * - `fence`: the claim under which the query was queued, if it was queued under one. Default: none.
 * - `timeToLive`: for how long the record is kept once the query is Completed; see `RedisStore.Command`. Default: as the
 *   store says.
 *
 * @category models
 * @since 0.1.0
 */
export interface ExecutionOptions extends Options {
  readonly fence?: number | undefined
  readonly timeToLive?: Duration.Input | undefined
}

/**
 * How to claim the query for a reset.
 *
 * **Details**
 *
 * - `ifVersion`: the version of the record to reset. If the query has another version by then, it is not reset, and the error
 *   is `LeaseLost` with the record as it stands. Default: any version.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResetOptions extends Options {
  readonly ifVersion?: number | undefined
}

/**
 * Lease of a claim without a `lease` option: 30 seconds.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultLease: Duration.Duration = Duration.seconds(30)

/**
 * Shortest time between two reports of progress that are sent: 250 milliseconds. That is often enough for a progress bar,
 * and little work for the server.
 *
 * @category constants
 * @since 0.1.0
 */
export const reportInterval: Duration.Duration = Duration.millis(250)
