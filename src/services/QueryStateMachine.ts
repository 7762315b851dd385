/**
 * One query: its lifecycle, and waiting for it.
 *
 * @module
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Stream from "effect/Stream"
import type { HistoryEntry } from "../domain/HistoryEntry.ts"
import type * as Progress from "../domain/Progress.ts"
import {
  type IllegalTransition,
  type LeaseLost,
  type QueryCancelled,
  type QueryErrored,
  type QueryResetFailed,
  StillPending
} from "../domain/QueryError.ts"
import type { QueryEvent } from "../domain/QueryEvent.ts"
import type { QueryKey } from "../domain/QueryKey.ts"
import type { QueryRecord } from "../domain/QueryRecord.ts"
import type * as QueryState from "../domain/QueryState.ts"
import * as Reason from "../domain/Reason.ts"
import * as Transition from "../domain/Transition.ts"
import { defaultHolder } from "./internal/holder.ts"
import * as Input from "./internal/input.ts"
import * as Owned from "./internal/owned.ts"
import * as Report from "./internal/report.ts"
import * as Run from "./internal/run.ts"
import * as Trace from "./internal/trace.ts"
import * as Wait from "./internal/wait.ts"
import { type Command, RedisStore } from "./RedisStore.ts"
import type { RedisStoreError } from "./RedisStoreError.ts"

/**
 * Answer to an event: the state of the query afterwards, and whether this call brought it there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Answer {
  readonly state: QueryState.QueryState
  readonly changed: boolean
}

/**
 * What can accompany an event; see `RedisStore.Command` for each.
 *
 * @category models
 * @since 0.1.0
 */
export interface TriggerOptions extends Omit<Command, "event"> {}

/**
 * A record whose outcome is decided.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeterminateRecord extends QueryRecord {
  readonly state: QueryState.Determinate
}

/**
 * How to wait.
 *
 * **Details**
 *
 * - `schedule`: when to look again while the query is pending, if no notification comes before; the wait ends with it.
 *   Default: `backstopSchedule` where the store announces all changes, else `pollingSchedule`.
 * - `timeout`: how long to wait once the query was found pending. Default: as long as the schedule goes on.
 *
 * @category models
 * @since 0.1.0
 */
export interface WaitOptions {
  readonly schedule?: Schedule.Schedule<unknown, StillPending> | undefined
  readonly timeout?: Duration.Input | undefined
}

/**
 * How to claim a query.
 *
 * **Details**
 *
 * - `lease`: how long the claim holds without a sign of life; renewed every third of it. Default: 30 seconds.
 * - `holder`: who holds it, 1 to 256 characters. Default: the name of this host and the id of this process.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClaimOptions {
  readonly lease?: Duration.Input | undefined
  readonly holder?: string | undefined
}

/**
 * The claim that work is handed: what a `QueryState.Claim` is, and a way to report how far the work has come.
 *
 * **Details**
 *
 * - `report` lets everybody see progress in `record` and `changes`, without a transition. It costs one command at most each
 *   `reportInterval`, however often it is called: the latest counts. It does not wait for the store, and what cannot be
 *   sent is left out. It fails with `InvalidInput` where a number is negative or not finite.
 *
 * @category models
 * @since 0.1.0
 */
export interface HeldClaim extends QueryState.Claim {
  readonly report: (progress: Progress.Input) => Effect.Effect<void, RedisStoreError>
}

/**
 * How to own a run.
 *
 * **Details**
 *
 * - `fence`: the claim under which the query was queued, if it was queued under one. Default: none.
 *
 * @category models
 * @since 0.1.0
 */
export interface ExecutionOptions extends ClaimOptions {
  readonly fence?: number | undefined
}

/**
 * How to own a reset.
 *
 * **Details**
 *
 * - `fence`: the version of the record that is to be reset; the query is left alone once it has moved on. Default: none, any.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResetOptions extends ClaimOptions {
  readonly fence?: number | undefined
}

/**
 * A state in which a query ended without a result.
 *
 * @category models
 * @since 0.1.0
 */
export type FailedState = QueryState.Errored | QueryState.Cancelled | QueryState.ResetFailed

/**
 * What `run` needs: how to run the query, and how to get the result of a run that was somebody else's.
 *
 * **Details**
 *
 * - `execute` runs the query; it is handed the claim, whose fence tells its writes from those of another run.
 * - `onCompleted` fetches the result of a query that is Completed.
 * - `purge` removes what an earlier run left behind, before the query is run again. Default: nothing.
 * - `recover` tells whether to reset a query that ended without a result and run it again. Default: only where a lease
 *   lapsed, since nobody decided that outcome. All who joined ask it, so that one which always says yes runs work that
 *   always fails once for each of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunOptions<A, E1, R1, E2, R2, E3, R3> extends ClaimOptions, WaitOptions {
  readonly execute: (claim: HeldClaim) => Effect.Effect<A, E1, R1>
  readonly onCompleted: Effect.Effect<A, E2, R2>
  readonly purge?: ((claim: HeldClaim) => Effect.Effect<unknown, E3, R3>) | undefined
  readonly recover?: ((state: FailedState) => boolean) | undefined
}

/**
 * Why a run has no result to answer with, besides the errors of the run itself.
 *
 * @category models
 * @since 0.1.0
 */
export type RunError =
  | LeaseLost
  | QueryCancelled
  | QueryErrored
  | QueryResetFailed
  | StillPending
  | RedisStoreError

/**
 * The lifecycle of one query.
 *
 * **Details**
 *
 * Every member needs nothing further, touches the store when it is run and not before, and makes one round trip. The
 * steps answer the state afterwards and whether this very call changed it; a step that the lifecycle does not accept in
 * the state at hand changes nothing and answers `changed: false`.
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
   * Triggers any event, with what belongs to it. With a `fence` it fails with `LeaseLost` if that claim is not held any
   * more.
   */
  readonly trigger: {
    (
      event: QueryEvent,
      options?: TriggerOptions & { readonly fence?: undefined }
    ): Effect.Effect<Answer, RedisStoreError>
    (event: QueryEvent, options: TriggerOptions): Effect.Effect<Answer, RedisStoreError | LeaseLost>
  }

  /** The state of the query. Looking writes nothing. */
  readonly currentState: Effect.Effect<QueryState.QueryState, RedisStoreError>
  /** The state of the query, with its version and the time of its last change. */
  readonly record: Effect.Effect<QueryRecord, RedisStoreError>

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
   * The current record, then every later one that is seen.
   *
   * Versions only go up; when many changes come at once, some are skipped. Progress shows with the version unchanged. A
   * record that was deleted shows as Known with version 0. The stream goes on through reconnects until its consumer ends it, or the store cannot be read.
   */
  readonly changes: Stream.Stream<QueryRecord, RedisStoreError>

  /**
   * The last transitions, oldest first: those that were made by layers of the store that have their history switched on.
   */
  readonly history: Effect.Effect<ReadonlyArray<HistoryEntry>, RedisStoreError>

  /**
   * Waits while the query is Queued, Executing or Resetting, and answers with the record that ended the wait.
   *
   * Fails with `StillPending` when the schedule or the time-out is over, and with `RedisStoreError` when the store cannot
   * be read. Interrupting a wait leaves nothing behind.
   */
  readonly waitUntilComplete: (
    options?: WaitOptions
  ) => Effect.Effect<DeterminateRecord, StillPending | RedisStoreError>

  /**
   * Owns a run of a Queued query: marks it as Executing, does `work` while the claim is renewed, and records how it went.
   *
   * Success becomes Completed, a failure or defect becomes Errored with its cause, and an interruption becomes Cancelled,
   * before this effect ends as `work` did. The finalizers of `work` have run by then.
   *
   * Fails with `QueryCancelled` when anybody cancels the query, and with `LeaseLost` when the claim is lost otherwise;
   * either interrupts `work`. Fails with `IllegalTransition`, which holds the record, when the query is not Queued. When
   * the outcome of failed work cannot be recorded, the cause holds both errors.
   */
  readonly withExecution: <A, E, R>(
    work: (claim: HeldClaim) => Effect.Effect<A, E, R>,
    options?: ExecutionOptions
  ) => Effect.Effect<A, E | LeaseLost | QueryCancelled | IllegalTransition | RedisStoreError, R>

  /**
   * Owns a reset: marks the query as Resetting, does `purge` while the claim is renewed, and marks the query as Known.
   *
   * A purge that fails or is interrupted makes the query ResetFailed, with its cause: it is never left Resetting.
   * Otherwise it is like `executing`.
   */
  readonly withReset: <A, E, R>(
    purge: (claim: HeldClaim) => Effect.Effect<A, E, R>,
    options?: ResetOptions
  ) => Effect.Effect<A, E | LeaseLost | QueryCancelled | IllegalTransition | RedisStoreError, R>

  /**
   * Runs the query once or joins the run that there is: one result, whoever ran it.
   *
   * A Known query is queued and executed here; a pending one is waited for; for a Completed one, `onCompleted` gets the
   * result. A query whose lease lapsed is reset and executed here. One that failed or was cancelled fails with
   * `QueryErrored`, `QueryCancelled` or `QueryResetFailed`, unless `recover` says to run it again.
   */
  readonly run: <A, E1 = never, R1 = never, E2 = never, R2 = never, E3 = never, R3 = never>(
    options: RunOptions<A, E1, R1, E2, R2, E3, R3>
  ) => Effect.Effect<A, E1 | E2 | E3 | RunError, R1 | R2 | R3>
}

/**
 * Schedule of a wait that is told nothing: it looks again after 10 milliseconds, then after half as long again each time,
 * up to 5 seconds, with jitter of 20 % either way, for ever.
 *
 * @category constants
 * @since 0.1.0
 */
export const pollingSchedule: Schedule.Schedule<unknown> = Schedule.min([
  Schedule.exponential("10 millis", 1.5),
  Schedule.spaced("5 seconds")
]).pipe(Schedule.jittered)

/**
 * Schedule of a wait that is woken by notifications: it looks every 30 seconds, with jitter of 20 % either way, for ever,
 * so that a notification that got lost costs no more than that. Many waits of one query in one process look once, and then
 * it costs no more than twice that.
 *
 * @category constants
 * @since 0.1.0
 */
export const backstopSchedule: Schedule.Schedule<unknown> = Schedule.fromStep(
  // It has no state, and so costs each of a hundred thousand waits nothing.
  Effect.succeed(() =>
    Effect.map(Random.nextBetween(24_000, 36_000), (millis): [unknown, Duration.Duration] => [
      undefined,
      Duration.millis(millis)
    ])
  )
)

/**
 * Lease of a claim that is given none: 30 seconds.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultLease: Duration.Duration = Duration.seconds(30)

/**
 * How often progress is sent at most: every 250 milliseconds, so that a progress bar moves and the server has no work.
 *
 * @category constants
 * @since 0.1.0
 */
export const reportInterval: Duration.Duration = Report.interval

/**
 * Creates the lifecycle of the query with the given key. It touches no store before a member is run.
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
  RedisStore.useSync((store) => new Machine(Trace.traced(store), key))

/** Makes each member when it is asked for: a program that has thousands of queries uses one or two of each. */
class Machine implements QueryStateMachine {
  readonly key: QueryKey
  private readonly store: RedisStore["Service"]

  constructor(store: RedisStore["Service"], key: QueryKey) {
    this.store = store
    this.key = key
  }

  get trigger(): QueryStateMachine["trigger"] {
    const { key, store } = this
    return ((event: QueryEvent, options?: TriggerOptions & { readonly fence?: undefined }) =>
      Effect.map(
        store.compareAndSet(key, { event, ...options }),
        ({ changed, record }): Answer => ({ state: record.state, changed })
      )) as QueryStateMachine["trigger"]
  }

  get enqueue() {
    return this.trigger("Queue")
  }
  get execute() {
    return this.trigger("Execute")
  }
  get finish() {
    return this.trigger("Finish")
  }
  get raiseError() {
    return this.trigger("Error")
  }
  get cancel() {
    return this.trigger("Cancel", { reason: Reason.requested() })
  }
  get reset() {
    return this.trigger("Reset")
  }
  get finishResetting() {
    return this.trigger("FinishReset")
  }

  get record() {
    return this.store.read(this.key)
  }
  get currentState() {
    return Effect.map(this.record, ({ state }) => state)
  }
  private is(...tags: ReadonlyArray<QueryState.Tag>) {
    return Effect.map(this.currentState, ({ _tag }) => tags.includes(_tag))
  }
  get isKnown() {
    return this.is("Known")
  }
  get isQueued() {
    return this.is("Queued")
  }
  get isExecuting() {
    return this.is("Executing")
  }
  get isCompleted() {
    return this.is("Completed")
  }
  get isErrored() {
    return this.is("Errored")
  }
  get isCancelled() {
    return this.is("Cancelled")
  }
  get isResetting() {
    return this.is("Resetting")
  }
  get isResetFailed() {
    return this.is("ResetFailed")
  }
  get isFinishedExecuting() {
    return this.is("Completed", "Errored")
  }

  get history() {
    return this.store.history(this.key)
  }
  get changes() {
    return Wait.changes(this.store, this.key, defaultPolicy)
  }
  get waitUntilComplete(): QueryStateMachine["waitUntilComplete"] {
    const { key, store } = this
    return (options) =>
      Input.orInvalid(
        "wait for",
        key,
        Input.waitIssue(options),
        () => Wait.waitUntilComplete(store, key, waiting(options ?? {}))
      )
  }

  get withExecution(): QueryStateMachine["withExecution"] {
    const { key, store } = this
    return (work, options) =>
      Input.orInvalid("execute", key, Input.workIssue(work, options), () => {
        const { fence, ...claimOptions } = options ?? {}
        const claiming = withDefaults(claimOptions)
        return Owned.owned(store, key, {
          claim: store.compareAndSet(key, { event: "Execute", fence, ...claiming }),
          lease: claiming.lease,
          events: Owned.execution,
          refused: (record) => Effect.fail(Transition.refusal(record, "Execute")),
          work
        })
      })
  }
  get withReset(): QueryStateMachine["withReset"] {
    const { key, store } = this
    return (purge, options) =>
      Input.orInvalid("reset", key, Input.workIssue(purge, options), () => {
        const { fence, ...claimOptions } = options ?? {}
        const claiming = withDefaults(claimOptions)
        return Owned.owned(store, key, {
          claim: store.compareAndSet(key, { event: "Reset", fence, ...claiming }),
          lease: claiming.lease,
          events: Owned.reset,
          refused: (record) => Effect.fail(Transition.refusal(record, "Reset")),
          work: purge
        })
      })
  }
  get run(): QueryStateMachine["run"] {
    const { key, store } = this
    return (options) =>
      Input.orInvalid("run", key, Input.runIssue(options), () =>
        Run.run(store, key, {
          execute: options.execute,
          onCompleted: options.onCompleted,
          purge: options.purge ?? (() => Effect.void),
          recover: options.recover ?? isUndecided,
          waitFrom: (record) => Wait.waitFrom(store, record, waiting(options)),
          ...withDefaults(options)
        }))
  }
}

const isUndecided = ({ reason }: FailedState): boolean => reason._tag === "LeaseExpired"

// These go by nothing: an error a look, with its stack, would be made for nobody.
const defaultPolicy: Wait.Policy = {
  schedule: ({ announcesAll }) => announcesAll ? backstopSchedule : pollingSchedule,
  inputOf: () => undefined
}

const policyOf = (schedule: Schedule.Schedule<unknown, StillPending>): Wait.Policy => ({
  schedule: () => schedule as Schedule.Schedule<unknown, unknown>,
  inputOf: (record) => new StillPending({ record })
})

const waiting = ({ schedule, timeout }: WaitOptions): Wait.WaitOptions => ({
  policy: schedule === undefined ? defaultPolicy : policyOf(schedule),
  timeout
})

const withDefaults = ({ holder = defaultHolder, lease = defaultLease }: ClaimOptions) => ({ holder, lease })
