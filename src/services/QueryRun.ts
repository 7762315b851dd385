/**
 * The options of `run`, and its errors.
 *
 * @module
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type { LeaseLost, QueryCancelled, QueryErrored, QueryResetFailed, StillPending } from "../domain/QueryError.ts"
import type * as QueryState from "../domain/QueryState.ts"
import type * as QueryClaim from "./QueryClaim.ts"
import type * as QueryWait from "./QueryWait.ts"
import type { RedisStoreError } from "./RedisStoreError.ts"

/**
 * How to run the query, and how to get the result if another process ran it.
 *
 * **Details**
 *
 * - `execute` runs the query. It gets the claim. The fence of the claim distinguishes its writes from those of other runs.
 * - `onCompleted` fetches the result of a query that is Completed.
 * - `purge` removes what an earlier run left behind, before the query is run again. Default: nothing.
 * - `recover` says whether to reset a query that ended without a result and run it again. Every caller that joined asks its
 *   own `recover`: if work always fails and `recover` always answers `true`, the work runs once for each caller. Default:
 *   only if a lease lapsed, because then nobody decided the outcome.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<A, E1, R1, E2, R2, E3, R3> extends QueryClaim.Options, QueryWait.Options {
  readonly execute: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E1, R1>
  readonly onCompleted: Effect.Effect<A, E2, R2>
  readonly purge?: ((claim: QueryClaim.QueryClaim) => Effect.Effect<unknown, E3, R3>) | undefined
  readonly recover?: ((state: QueryState.Failed) => boolean) | undefined
}

/**
 * Why a run has no result, besides the errors of the work itself.
 *
 * @category errors
 * @since 0.1.0
 */
export type Error =
  | LeaseLost
  | QueryCancelled
  | QueryErrored
  | QueryResetFailed
  | StillPending
  | RedisStoreError
