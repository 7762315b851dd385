/**
 * Port for the atomic storage operations behind queries.
 *
 * @module
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { HistoryEntry } from "../domain/HistoryEntry.ts"
import type { Progress } from "../domain/Progress.ts"
import type { LeaseLost } from "../domain/QueryError.ts"
import type { DbId, QueryKey } from "../domain/QueryKey.ts"
import type { QueryRecord } from "../domain/QueryRecord.ts"
import type { Reason } from "../domain/Reason.ts"
import type { Path } from "../domain/Transition.ts"
import type { RedisStoreError } from "./RedisStoreError.ts"

/**
 * What to record, and on what condition.
 *
 * **Details**
 *
 * - `event`: what happened: one event, or several that follow each other. All of them are applied in one step, or none.
 *   Each is a transition of its own, with a version and an entry in the history. The lifecycle says which paths a state
 *   accepts.
 * - `fence`: the claim under which it happened. The command fails with `LeaseLost` if that claim is not held any more.
 * - `ifVersion`: the version that the record must have; any other refuses the command. It proves no claim. Default: any.
 * - `lease`: for how long the new state is claimed, longer than zero and finite. Default: for ever.
 * - `holder`: who claims it, 1 to 256 characters. Default: nobody.
 * - `reason`: why, for states that carry a reason. Default: `Unrecorded`.
 * - `traceparent`: the span that claims the query, as W3C Trace Context writes it. Default: none.
 *
 * @category models
 * @since 0.1.0
 */
export interface Command {
  readonly event: Path
  readonly fence?: number | undefined
  readonly ifVersion?: number | undefined
  readonly lease?: Duration.Input | undefined
  readonly holder?: string | undefined
  readonly reason?: Reason | undefined
  readonly traceparent?: string | undefined
}

/**
 * A command that presents no claim, and so cannot lose one.
 *
 * @category models
 * @since 0.1.0
 */
export interface UnfencedCommand extends Command {
  readonly fence?: undefined
}

/**
 * Result of a command: the record as it stands afterwards, and whether this command changed it.
 *
 * @category models
 * @since 0.1.0
 */
export interface CommandResult {
  readonly record: QueryRecord
  readonly changed: boolean
}

/**
 * Who hears of one query while it is subscribed to. Both functions return at once and throw nothing.
 *
 * **Details**
 *
 * - `onHint` is called with the version of a change. A hint is no promise: it may come late, twice, or, rarely, not at all.
 *   `Infinity` tells that hints may have been missed and that it is time to read.
 * - `onRead` is called with the version that somebody else in this process has just read, so that many who wait for one
 *   query need not all look for themselves. A store to which a read costs nothing may leave that out.
 * - `onProgress` is called when the holder has reported progress. That is a hint, too.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener {
  readonly onHint: (version: number) => void
  readonly onRead: (version: number) => void
  readonly onProgress?: (() => void) | undefined
}

/**
 * How much of the past a store keeps.
 *
 * **Details**
 *
 * - `length`: how many of the last transitions of each query are kept, from 1 to 10,000.
 * - `retention`: for how long they are kept after the last one. Default: 7 days.
 *
 * @category models
 * @since 0.1.0
 */
export interface HistoryOptions {
  readonly length: number
  readonly retention?: Duration.Input | undefined
}

/**
 * Subscription to the changes of one query, for as long as its scope is open.
 *
 * **Details**
 *
 * - `announcesAll` is false where somebody else moves queries without telling; then a wait must look more often.
 *
 * @category models
 * @since 0.1.0
 */
export interface Changes {
  readonly announcesAll: boolean
}

/**
 * Store that holds one record a query.
 *
 * **Details**
 *
 * - `compareAndSet` moves a query along a path, in one atomic step, if the lifecycle has it from the state that the query is
 *   in. It answers `changed: false` and changes nothing if not. A query that is held under a lease is moved
 *   on only by a command with the fence of that claim; without it, anybody can still cancel.
 * - `compareAndSetMany` does the same for many, each atomic by itself, and answers in the order of the commands.
 * - `read` and `readMany` answer the record; a query without one is Known, and stays without.
 * - `renew` gives a claim a new lease from now on, or fails with `LeaseLost` if it is not held any more. It records the
 *   progress of the holder, where there is any to record, and tells so.
 * - `changes` subscribes to the changes of a query, with a listener of its own. A change that is made once it has
 *   returned is hinted at.
 * - `keys` finds the queries of a database that have a record, without blocking the server. One that comes or goes
 *   meanwhile may be left out, and one may come twice.
 * - `history` answers the last transitions, oldest first: those that were made by a layer with its history switched on.
 * - `currentTime` is the time of the store, as far as it is known here without asking. It tells when to look, and decides
 *   nothing.
 *
 * Every operation first settles a lapsed lease: Queued becomes Cancelled, Executing becomes Errored, and Resetting
 * becomes ResetFailed, each with the reason `LeaseExpired`. Time is the time of the store. Every operation is bounded in
 * time. A query that was reset keeps its record, as Known, for `knownTimeToLive`.
 *
 * @category services
 * @since 0.1.0
 */
export class RedisStore extends Context.Service<RedisStore, {
  readonly compareAndSet: {
    (key: QueryKey, command: UnfencedCommand): Effect.Effect<CommandResult, RedisStoreError>
    (key: QueryKey, command: Command): Effect.Effect<CommandResult, RedisStoreError | LeaseLost>
  }
  readonly compareAndSetMany: (
    commands: ReadonlyArray<readonly [key: QueryKey, command: Command]>
  ) => Effect.Effect<ReadonlyArray<Result.Result<CommandResult, RedisStoreError | LeaseLost>>>
  readonly read: (key: QueryKey) => Effect.Effect<QueryRecord, RedisStoreError>
  readonly readMany: (
    keys: ReadonlyArray<QueryKey>
  ) => Effect.Effect<ReadonlyArray<Result.Result<QueryRecord, RedisStoreError>>>
  readonly renew: (
    key: QueryKey,
    fence: number,
    lease: Duration.Input,
    progress?: Progress
  ) => Effect.Effect<QueryRecord, RedisStoreError | LeaseLost>
  readonly changes: (
    key: QueryKey,
    listener: Listener
  ) => Effect.Effect<Changes, RedisStoreError, Scope.Scope>
  readonly keys: (db: DbId) => Stream.Stream<QueryKey, RedisStoreError>
  readonly history: (key: QueryKey) => Effect.Effect<ReadonlyArray<HistoryEntry>, RedisStoreError>
  readonly currentTime: Effect.Effect<DateTime.Utc>
}>()("effect-query-state/services/RedisStore") {}

/**
 * How long the record of a query that was reset is kept, as Known, before it is forgotten: one minute.
 *
 * **Details**
 *
 * It is there to recognise a command that is sent again because its answer was lost.
 *
 * @category constants
 * @since 0.1.0
 */
export const knownTimeToLive: Duration.Duration = Duration.minutes(1)
