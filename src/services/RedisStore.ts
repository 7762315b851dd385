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
import type { QueryRecord, WaitsFor } from "../domain/QueryRecord.ts"
import type { Reason } from "../domain/Reason.ts"
import type { Path } from "../domain/Transition.ts"
import type { RedisStoreError } from "./RedisStoreError.ts"

/**
 * What to record, and on which conditions.
 *
 * **Details**
 *
 * - `event`: what happened: one event, or several in a row. They are applied in one step, all or none. Each is a transition
 *   of its own, with a version and an entry in the history. The lifecycle says in which states a path is valid.
 * - `fence`: the claim under which it happened. The command fails with `LeaseLost` if that claim is no longer held.
 * - `ifVersion`: the version that the record must have; with another version the command writes nothing. Unlike a fence, it
 *   does not prove a claim. Default: any version.
 * - `lease`: for how long the new state is claimed, longer than zero and finite. Default: it never lapses.
 * - `holder`: who claims it, 1 to 256 characters. Default: nobody.
 * - `reason`: why, for states with a reason. Default: `Unrecorded`.
 * - `operation`: a number that names the command, so that it can be sent again where its answer was lost: a whole number
 *   above zero, unique among the commands for this query. If the last transition of the query has the same number, the
 *   command was carried out before; it is answered with `changed: true` and writes nothing. Default: a new one.
 * - `timeToLive`: for how long the record is kept after a path that ends with `Finish`, `Error` or `Cancel`, longer than zero
 *   and finite. Then it expires: the query is Known. Every later transition takes the expiry off. A store without
 *   `hasTimeToLive` refuses it with `InvalidInput`. If it is shorter than the `commandTimeout` of a store in Redis, a command
 *   with a lost reply can fail with `ConnectionLost` although it was carried out. Default: as the `keep` option of the store
 *   says, else for ever.
 * - `label`: what the query is called, for people, at most 1,024 characters. The record keeps it. Default: as it was.
 * - `result`: what to do with the results of the query. A store without `hasResults` refuses it with `InvalidInput`. Default:
 *   nothing.
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
  readonly operation?: number | undefined
  readonly traceparent?: string | undefined
  readonly timeToLive?: Duration.Input | undefined
  readonly label?: string | undefined
  readonly result?: ResultAction | undefined
}

/**
 * What a command does with the results of the query.
 *
 * **Details**
 *
 * - `Leave` records what a run left behind, as text: of a success with `Finish`, of a failure with `Error`. A success replaces
 *   what earlier runs left; a failure replaces an earlier failure. Results survive a reset. A result is kept as long as the
 *   record of its run, and a success at least as long as a later failure, with which it shares its expiry.
 * - `Drop` deletes them, also where the command is refused because the query is Known.
 * - `Get` answers with them where the command is refused.
 *
 * @category models
 * @since 0.1.0
 */
export type ResultAction =
  | { readonly _tag: "Leave"; readonly text: string }
  | { readonly _tag: "Drop" }
  | { readonly _tag: "Get" }

/**
 * What the last success and the last failure left behind, each with the version at which it was recorded.
 *
 * @category models
 * @since 0.1.0
 */
export interface Results {
  readonly success?: { readonly version: number; readonly text: string } | undefined
  readonly failure?: { readonly version: number; readonly text: string } | undefined
}

/**
 * A command without a fence. It cannot fail with `LeaseLost`.
 *
 * @category models
 * @since 0.1.0
 */
export interface UnfencedCommand extends Command {
  readonly fence?: undefined
}

/**
 * Result of a command: the record afterwards, and whether this command changed it. `results` are there if the command was
 * refused and asked for them.
 *
 * @category models
 * @since 0.1.0
 */
export interface CommandResult {
  readonly record: QueryRecord
  readonly changed: boolean
  readonly results?: Results | undefined
}

/**
 * How a listener gets a record: by a `notification`, which can be late, or by a `read`, which tells what is true now.
 *
 * @category models
 * @since 0.1.0
 */
export type Source = "notification" | "read"

/**
 * Gets the records of one query during a subscription. No function blocks or throws.
 *
 * **Details**
 *
 * - `onRecord` gets the record of a transition or of reported progress, from a notification, or from a read by another fiber
 *   of this process. A notification may come late, twice, or not at all. Believe a record if its version is newer than all
 *   that was seen before. Read if its version is older: the record was deleted or lost in a failover, or the notification is
 *   stale.
 * - `onGap` means that notifications may have been lost, or that one could not be understood: the record should be read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener {
  readonly onRecord: (record: QueryRecord, source: Source) => void
  readonly onGap: () => void
}

/**
 * How much history a store keeps.
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
 * How long a store keeps the records of queries whose outcome is decided, where a command says nothing else with
 * `timeToLive`. Then they expire, and the queries are Known.
 *
 * **Details**
 *
 * - `completed`: of Completed queries. Default: for ever.
 * - `failed`: of Errored queries, also those whose lease lapsed. Default: for ever.
 * - `cancelled`: of Cancelled queries. Default: for ever.
 *
 * ResetFailed is kept for ever: results of an earlier run may still be there.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeepOptions {
  readonly completed?: Duration.Input | undefined
  readonly failed?: Duration.Input | undefined
  readonly cancelled?: Duration.Input | undefined
}

/**
 * What a holder reports when it renews its lease.
 *
 * **Details**
 *
 * - `progress`: how far the work has come. It is published. Default: as it was.
 * - `waitsFor`: the queries that the holder waits for. It is not published. Default: as it was.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly progress?: Progress | undefined
  readonly waitsFor?: ReadonlyArray<WaitsFor> | undefined
}

/**
 * Subscription to the changes of one query, for as long as its scope is open.
 *
 * **Details**
 *
 * - `announcesAll` is false if another program changes queries without a notification. Then a wait must poll.
 *
 * @category models
 * @since 0.1.0
 */
export interface Changes {
  readonly announcesAll: boolean
}

/**
 * Store that holds one record for each query.
 *
 * **Details**
 *
 * - `compareAndSet` moves a query along a path of events atomically, if the path is valid in its current state. An
 *   invalid path writes nothing and returns `changed: false`. A query under a lease is changed only by a command with the
 *   fence of that claim, except that `Cancel` needs no fence.
 * - `compareAndSetMany` does the same for many queries, each atomically, and returns the results in the order of the commands.
 * - `read` and `readMany` return the record. A query without a record is Known, and a read creates none.
 * - `renew` gives a claim a new lease from now on, or fails with `LeaseLost` if the claim is no longer held. What the holder
 *   reports is recorded with it.
 * - `changes` subscribes a listener to a query. The listener gets the record of every change after `changes` has returned.
 * - `keys` finds the queries of a database that have a record, without blocking the server. A query whose record is created
 *   or deleted meanwhile may be missing, and a query may come twice.
 * - `databases` finds every database with a record, each once, likewise. It remembers the ids that it has found, and so takes
 *   memory for each database.
 * - `history` returns the last transitions, oldest first. Only transitions made by a layer with the `history` option are kept.
 * - `currentTime` is the time of the store, as far as it is known without a round trip. It decides when to read, and how old a
 *   record is for a reader; nothing that is written.
 * - `results` reads what runs left behind.
 * - `hasTimeToLive` says whether records can expire, and `hasResults` whether the store keeps results.
 *
 * Every operation first settles a lapsed lease: Queued becomes Cancelled, Executing becomes Errored, and Resetting
 * becomes ResetFailed, each with the reason `LeaseExpired`. Time is the time of the store. Every operation ends in bounded
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
    report?: Report
  ) => Effect.Effect<QueryRecord, RedisStoreError | LeaseLost>
  readonly changes: (
    key: QueryKey,
    listener: Listener
  ) => Effect.Effect<Changes, RedisStoreError, Scope.Scope>
  readonly keys: (db: DbId) => Stream.Stream<QueryKey, RedisStoreError>
  readonly databases: Stream.Stream<DbId, RedisStoreError>
  readonly history: (key: QueryKey) => Effect.Effect<ReadonlyArray<HistoryEntry>, RedisStoreError>
  readonly currentTime: Effect.Effect<DateTime.Utc>
  readonly results: (key: QueryKey) => Effect.Effect<Results, RedisStoreError>
  readonly hasTimeToLive: boolean
  readonly hasResults: boolean
}>()("effect-query-state/services/RedisStore") {}

/**
 * How long the record of a query that was reset is kept, as Known, before it is deleted: one minute.
 *
 * **Details**
 *
 * In that time the store recognises a command that is sent again because its answer was lost.
 *
 * @category constants
 * @since 0.1.0
 */
export const knownTimeToLive: Duration.Duration = Duration.minutes(1)
