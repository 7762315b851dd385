/**
 * The options of `run`, and its errors.
 *
 * @module
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type {
  LeaseLost,
  QueryCancelled,
  QueryCycle,
  QueryErrored,
  QueryResetFailed,
  StillPending
} from "../domain/QueryError.ts"
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
 * - `result` gets what a run left behind, if the query is Completed. `None` means that it is gone: the query is run again.
 * - `purge` removes what an earlier run left behind, before the query is run again. Default: nothing.
 * - `recover` says whether to run a query again that this caller finds failed or cancelled. It is not asked about a run that
 *   this caller waited for: whoever waited shares the failure. It may be an effect. Default: no.
 * - `maxAttempts`: how often a query is executed whose lease lapses each time, a whole number of at least 1. While there are
 *   fewer attempts behind it, `run` takes over a query whose lease lapsed or whose run was interrupted. Default:
 *   `defaultMaxAttempts`.
 * - `maxAge`: a Completed query that this caller finds is run again if it completed longer ago than that. Default: it never
 *   gets too old.
 * - `timeToLive`: for how long the record is kept once the query is Completed; see `RedisStore.Command`. Default: as the
 *   store says.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<A, E1, R1, E2, R2, E3, R3, E4, R4> extends QueryClaim.Options, QueryWait.Options {
  readonly execute: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E1, R1>
  readonly result: Effect.Effect<Option.Option<A>, E2, R2>
  readonly purge?: ((claim: QueryClaim.QueryClaim) => Effect.Effect<unknown, E3, R3>) | undefined
  readonly recover?: ((found: Found) => boolean | Effect.Effect<boolean, E4, R4>) | undefined
  readonly maxAttempts?: number | undefined
  readonly maxAge?: Duration.Input | undefined
  readonly timeToLive?: Duration.Input | undefined
}

/**
 * A query that ended without a result, as a caller of `run` finds it.
 *
 * **Details**
 *
 * - `attempts` counts its executions since it was last Completed or reset to Known; see `QueryRecord`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Found {
  readonly state: QueryState.Failed
  readonly attempts: number
}

/**
 * How often a query is executed whose lease lapses each time: 3. Work that kills or blocks its process harms no more of them.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultMaxAttempts = 3

/**
 * Why a run has no result, besides the errors of the work itself.
 *
 * @category errors
 * @since 0.1.0
 */
export type Error =
  | LeaseLost
  | QueryCancelled
  | QueryCycle
  | QueryErrored
  | QueryResetFailed
  | StillPending
  | RedisStoreError
