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
 * - `execute` runs the query, and stores the result for the others. It gets the claim, whose fence distinguishes its writes
 *   from those of other runs.
 * - `result` gets the stored result of a Completed query. `None` means that it is gone: the query is run again.
 * - `purge` removes what an earlier run left behind, before the query is run again. Default: nothing.
 * - `recover` says whether to run a query again that this caller finds failed or cancelled. It is not asked about a run that
 *   this caller waited for: all who waited share the failure. It may be an effect. Default: no.
 * - `maxAttempts`: after how many executions without an outcome the query is given up, a whole number of at least 1. While
 *   there are fewer attempts behind a query, `run` takes it over if its lease lapsed or its run was interrupted. Default:
 *   `defaultMaxAttempts`.
 * - `maxAge`: a Completed query that this caller finds is run again if it was completed longer ago than that. Default: no
 *   limit.
 * - `timeToLive`: for how long the record is kept once this run has completed the query. Then it expires, and the query is
 *   Known. Longer than zero and finite. Default: as the `keep` option of the store says, else for ever.
 *
 * Work that fails is not run again by those who wait. Use `Effect.retry` in `execute` to try again under the same claim, and
 * `recover` to let a later caller try.
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
 * After how many executions without an outcome a query is given up: 3. So work that kills or blocks its process harms three
 * processes at most.
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
