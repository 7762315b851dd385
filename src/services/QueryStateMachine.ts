/**
 * One query: its lifecycle, and waiting for it.
 *
 * @module
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import type * as Stream from "effect/Stream"
import type { HistoryEntry } from "../domain/HistoryEntry.ts"
import type { IllegalTransition, LeaseLost, QueryCancelled, StillPending } from "../domain/QueryError.ts"
import type { QueryKey } from "../domain/QueryKey.ts"
import type * as QueryRecord from "../domain/QueryRecord.ts"
import type * as QueryState from "../domain/QueryState.ts"
import * as Reason from "../domain/Reason.ts"
import type { Path } from "../domain/Transition.ts"
import { claimedWork, execution, reset } from "./internal/claimedWork.ts"
import * as Input from "./internal/input.ts"
import * as Run from "./internal/run.ts"
import * as Trace from "./internal/trace.ts"
import * as Wait from "./internal/wait.ts"
import type * as QueryClaim from "./QueryClaim.ts"
import type * as QueryRun from "./QueryRun.ts"
import type * as QueryWait from "./QueryWait.ts"
import { type Command, type CommandResult, RedisStore } from "./RedisStore.ts"
import type { RedisStoreError } from "./RedisStoreError.ts"

/**
 * Answer to an event: the state of the query afterwards, and whether this call changed it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Answer {
  readonly state: QueryState.QueryState
  readonly changed: boolean
}

/**
 * Options of an event; see `RedisStore.Command` for each of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface TriggerOptions extends Omit<Command, "event"> {}

/**
 * The lifecycle of one query.
 *
 * **Details**
 *
 * No member uses the store before it is run. Each step and each read of the state is one round trip. A step answers with the
 * state afterwards, and with whether this call changed it. A step that is invalid in the current state writes nothing and
 * answers `changed: false`. The machine is a plain value: its members can be destructured, spread and passed on.
 *
 * @category models
 * @since 0.1.0
 */
export interface QueryStateMachine {
  readonly key: QueryKey

  /** Marks a Known query as Queued. */
  readonly enqueue: Effect.Effect<Answer, RedisStoreError>
  /** Marks a Queued query as Executing. */
  readonly execute: Effect.Effect<Answer, RedisStoreError>
  /** Marks an Executing query as Completed. */
  readonly finish: Effect.Effect<Answer, RedisStoreError>
  /** Marks an Executing query as Errored, and a Resetting one as ResetFailed. Use `trigger` to say why. */
  readonly raiseError: Effect.Effect<Answer, RedisStoreError>
  /** Marks a Queued or Executing query as Cancelled. Use `trigger` to say who asked, and why. */
  readonly cancel: Effect.Effect<Answer, RedisStoreError>
  /** Marks a Completed, Errored, Cancelled or ResetFailed query as Resetting. */
  readonly reset: Effect.Effect<Answer, RedisStoreError>
  /** Marks a Resetting query as Known. */
  readonly finishResetting: Effect.Effect<Answer, RedisStoreError>

  /**
   * Triggers an event, or a path of events: all of them at once, or none. With a `fence` it fails with `LeaseLost` if that
   * claim is no longer held.
   */
  readonly trigger: {
    (
      event: Path,
      options?: TriggerOptions & { readonly fence?: undefined }
    ): Effect.Effect<Answer, RedisStoreError>
    (event: Path, options: TriggerOptions): Effect.Effect<Answer, RedisStoreError | LeaseLost>
  }

  /** The state of the query. */
  readonly currentState: Effect.Effect<QueryState.QueryState, RedisStoreError>
  /** The state of the query, with its version and the time of its last change. */
  readonly record: Effect.Effect<QueryRecord.QueryRecord, RedisStoreError>

  readonly isKnown: Effect.Effect<boolean, RedisStoreError>
  readonly isQueued: Effect.Effect<boolean, RedisStoreError>
  readonly isExecuting: Effect.Effect<boolean, RedisStoreError>
  readonly isCompleted: Effect.Effect<boolean, RedisStoreError>
  readonly isErrored: Effect.Effect<boolean, RedisStoreError>
  readonly isCancelled: Effect.Effect<boolean, RedisStoreError>
  readonly isResetting: Effect.Effect<boolean, RedisStoreError>
  readonly isResetFailed: Effect.Effect<boolean, RedisStoreError>
  /** Whether the query ran to its end, well or not: it is Completed or Errored. */
  readonly isFinishedExecuting: Effect.Effect<boolean, RedisStoreError>

  /**
   * The current record, then each later one.
   *
   * Versions only go up. When many changes come at once, some are skipped. Progress keeps the version. A deleted record is
   * Known with version 0. The stream survives reconnects; it ends when its consumer does, or fails when the store cannot be
   * read.
   */
  readonly changes: Stream.Stream<QueryRecord.QueryRecord, RedisStoreError>

  /**
   * The last transitions, oldest first. Only transitions made by a layer with the `history` option are kept.
   */
  readonly history: Effect.Effect<ReadonlyArray<HistoryEntry>, RedisStoreError>

  /**
   * Waits while the query is Queued, Executing or Resetting, and returns the record that ended the wait.
   *
   * Fails with `StillPending` when the schedule or the time-out ends, and with `RedisStoreError` when the store cannot be
   * read. An interrupted wait leaves nothing behind.
   */
  readonly waitUntilComplete: (
    options?: QueryWait.Options
  ) => Effect.Effect<QueryRecord.Determinate, StillPending | RedisStoreError>

  /**
   * Runs a Queued query: marks it as Executing, does `work` while a heartbeat renews the lease, and records the outcome.
   *
   * Success is recorded as Completed, a failure or defect as Errored with its cause, and an interruption as Cancelled, which
   * the next `run` takes over. Then this effect ends as `work` did. The finalizers of `work` run before the outcome is recorded. If the store fails then, the
   * outcome is sent again until 90 % of the lease is over.
   *
   * Fails with `QueryCancelled` when the query is cancelled meanwhile, and with `LeaseLost` when the claim is lost otherwise;
   * both interrupt `work`. Fails with `IllegalTransition`, which holds the record, when the query is not Queued. When the
   * outcome of failed work cannot be recorded, the cause holds both errors.
   */
  readonly withExecution: <A, E, R>(
    work: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E, R>,
    options?: QueryClaim.ExecutionOptions
  ) => Effect.Effect<A, E | LeaseLost | QueryCancelled | IllegalTransition | RedisStoreError, R>

  /**
   * Resets a query: marks it as Resetting, does `purge` while a heartbeat renews the lease, and marks it as Known.
   *
   * A purge that fails or is interrupted makes the query ResetFailed, with its cause. Otherwise this is like
   * `withExecution`.
   */
  readonly withReset: <A, E, R>(
    purge: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E, R>,
    options?: QueryClaim.ResetOptions
  ) => Effect.Effect<A, E | LeaseLost | QueryCancelled | IllegalTransition | RedisStoreError, R>

  /**
   * Runs the query once, or joins the run that is under way: every caller gets the result of the same run.
   *
   * A Known query is queued and executed here. If the query is pending, this waits for it. If it is Completed, `result` gets
   * the stored result; if that is gone, or older than `maxAge`, the query is executed again. If its lease lapsed, or its run
   * was interrupted, the first caller takes it over, until there are `maxAttempts` attempts behind it. If it failed or was
   * cancelled, this fails with `QueryErrored`, `QueryCancelled` or `QueryResetFailed`, unless this caller finds it so and
   * `recover` says to run it again.
   *
   * If this caller is interrupted, the others go on: the next one takes the query over. If its claim is lost, it joins what
   * others do. Within the work of another query, a run that would wait for itself fails with `QueryCycle`. When the schedule
   * or the time-out of its wait ends, it fails with `StillPending`.
   */
  readonly run: <A, E1 = never, R1 = never, E2 = never, R2 = never, E3 = never, R3 = never, E4 = never, R4 = never>(
    options: QueryRun.Options<A, E1, R1, E2, R2, E3, R3, E4, R4>
  ) => Effect.Effect<A, E1 | E2 | E3 | E4 | QueryRun.Error, R1 | R2 | R3 | R4>
}

/**
 * Creates the machine of the query with the given key. It sends nothing before a member is run.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { QueryKey, QueryStateMachine } from "effect-query-state"
 *
 * const program = Effect.gen(function*() {
 *   const key = yield* QueryKey.make({ db: "warehouse", query: "daily-totals" })
 *   const query = yield* QueryStateMachine.make(key)
 *   const { changed } = yield* query.enqueue
 *   return changed
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (key: QueryKey): Effect.Effect<QueryStateMachine, never, RedisStore> =>
  RedisStore.useSync((store) => machine(Trace.traced(store), key))

interface Query {
  readonly store: RedisStore["Service"]
  readonly key: QueryKey
}

/**
 * Defines a member of the machine: an effect that is made when it runs. An instance has one field, so that a machine takes
 * 1.7 KB; with `Effect.suspend` it takes 3.9 KB.
 */
const member = <A, E>(effectOf: (query: Query) => Effect.Effect<A, E>) =>
  class extends Effectable.Class<A, E> {
    private readonly query: Query

    constructor(query: Query) {
      super()
      this.query = query
    }

    asEffect() {
      return effectOf(this.query)
    }
  }

const toAnswer = ({ changed, record }: CommandResult): Answer => ({ state: record.state, changed })

const step = (event: Path, reason?: Reason.Reason) =>
  member(({ key, store }) => Effect.map(store.compareAndSet(key, { event, reason }), toAnswer))
const Enqueue = step("Queue")
const Execute = step("Execute")
const Finish = step("Finish")
const RaiseError = step("Error")
const Cancel = step("Cancel", Reason.requested())
const Reset = step("Reset")
const FinishResetting = step("FinishReset")

const ReadRecord = member(({ key, store }) => store.read(key))
const ReadHistory = member(({ key, store }) => store.history(key))
const CurrentState = member(({ key, store }) => Effect.map(store.read(key), ({ state }) => state))
const is = (...tags: ReadonlyArray<QueryState.Tag>) =>
  member(({ key, store }) => Effect.map(store.read(key), ({ state }) => tags.includes(state._tag)))
const IsKnown = is("Known")
const IsQueued = is("Queued")
const IsExecuting = is("Executing")
const IsCompleted = is("Completed")
const IsErrored = is("Errored")
const IsCancelled = is("Cancelled")
const IsResetting = is("Resetting")
const IsResetFailed = is("ResetFailed")
const IsFinishedExecuting = is("Completed", "Errored")

const machine = (store: RedisStore["Service"], key: QueryKey): QueryStateMachine => {
  const query: Query = { store, key }
  return {
    key,
    enqueue: new Enqueue(query),
    execute: new Execute(query),
    finish: new Finish(query),
    raiseError: new RaiseError(query),
    cancel: new Cancel(query),
    reset: new Reset(query),
    finishResetting: new FinishResetting(query),
    // Without a fence, no command fails with `LeaseLost`.
    trigger:
      ((event, options) => Effect.map(store.compareAndSet(key, { event, ...options }), toAnswer)) as QueryStateMachine[
        "trigger"
      ],
    currentState: new CurrentState(query),
    record: new ReadRecord(query),
    isKnown: new IsKnown(query),
    isQueued: new IsQueued(query),
    isExecuting: new IsExecuting(query),
    isCompleted: new IsCompleted(query),
    isErrored: new IsErrored(query),
    isCancelled: new IsCancelled(query),
    isResetting: new IsResetting(query),
    isResetFailed: new IsResetFailed(query),
    isFinishedExecuting: new IsFinishedExecuting(query),
    changes: Wait.changes(store, key),
    history: new ReadHistory(query),
    waitUntilComplete: (options) =>
      Input.orInvalid("wait for", key, Input.waitIssue(options), () => Wait.waitUntilComplete(store, key, options)),
    withExecution: (work, options) =>
      Input.orInvalid(
        "execute",
        key,
        Input.workIssue(work, options, store),
        () => claimedWork(store, key, execution, work, options)
      ),
    withReset: (purge, options) =>
      Input.orInvalid(
        "reset",
        key,
        Input.workIssue(purge, options, store),
        () => claimedWork(store, key, reset, purge, options)
      ),
    run: (options) => Input.orInvalid("run", key, Input.runIssue(options, store), () => Run.run(store, key, options))
  }
}
