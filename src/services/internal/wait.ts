/** Waiting for a query: a notification carries the record; else reads after a gap, when its time may be over, and by schedule. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Progress } from "../../domain/Progress.ts"
import { StillPending } from "../../domain/QueryError.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import * as QueryRecord from "../../domain/QueryRecord.ts"
import * as QueryState from "../../domain/QueryState.ts"
import * as QueryMetrics from "../QueryMetrics.ts"
import * as QueryWait from "../QueryWait.ts"
import type { Changes, RedisStore } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"
import * as Trace from "./trace.ts"
import { subscribe, Waiter, type Wake } from "./waiter.ts"

type Store = RedisStore["Service"]

// A record whose time seems to be over by the clock of this process is looked at again after this time, and not at once.
const leastMillis = 10

/** In how many milliseconds time alone changes a record: its claim ends if nobody renews it, or the record expires. */
const millisLeft = (store: Store, { keptUntil, state }: QueryRecord.QueryRecord): Effect.Effect<number> => {
  const until = QueryState.claimOf(state)?.expiresAt ?? keptUntil
  return until === undefined
    ? Effect.succeed(Number.POSITIVE_INFINITY)
    : Effect.map(
      store.currentTime,
      (now) => Math.max(DateTime.toEpochMillis(until) - DateTime.toEpochMillis(now), leastMillis)
    )
}

/** Chooses the schedule of a wait, and the input of its steps. */
interface Policy {
  readonly schedule: (changes: Changes) => Schedule.Schedule<unknown, unknown>
  readonly inputOf: (record: QueryRecord.QueryRecord) => unknown
}

// These schedules have no use for an error, which would cost a stack trace at every step.
const defaultPolicy: Policy = {
  schedule: ({ announcesAll }) => announcesAll ? QueryWait.backstopSchedule : QueryWait.pollingSchedule,
  inputOf: () => undefined
}

const policyOf = (schedule: Schedule.Schedule<unknown, StillPending> | undefined): Policy =>
  schedule === undefined ? defaultPolicy : {
    schedule: () => schedule as Schedule.Schedule<unknown, unknown>,
    inputOf: (record) => new StillPending({ record })
  }

type ScheduleStep = Effect.Success<ReturnType<typeof Schedule.toStep<unknown, unknown, never, never>>>

interface Watch<A extends QueryRecord.QueryRecord> {
  readonly store: Store
  readonly key: QueryKey
  readonly waiter: Waiter
  readonly isWanted: (record: QueryRecord.QueryRecord) => record is A
  readonly step: ScheduleStep
  readonly policy: Policy
}

// Written without generators, and with one subscription for both: a generator and its closures would be kept by every
// pending wait (benchmark: 100,000 waiters of 100,000 queries).

const read = <A extends QueryRecord.QueryRecord>(watch: Watch<A>): Effect.Effect<A, StillPending | RedisStoreError> =>
  Effect.filterOrElse(watch.store.read(watch.key), watch.isWanted, (record) => pause(watch, record))

const pause = <A extends QueryRecord.QueryRecord>(
  watch: Watch<A>,
  record: QueryRecord.QueryRecord,
  spentMillis = 0
): Effect.Effect<A, StillPending | RedisStoreError> =>
  Effect.flatMap(
    delayAfter(watch, record, spentMillis),
    (delayMillis) =>
      Effect.flatMap(millisLeft(watch.store, record), (leftMillis) =>
        Effect.flatMap(
          watch.waiter.wait(record, Math.min(delayMillis, leftMillis)),
          (wake) => {
            const isOver = leftMillis <= delayMillis
            // The read of another fiber was as good as one by this one, and the next delay counts from it.
            if (wake === "timeAfterRead" && !isOver) return pause(watch, record, watch.waiter.millisSinceRead())
            if (typeof wake === "object") {
              return Effect.andThen(
                Metric.update(QueryMetrics.wakeUps.notification, 1),
                watch.isWanted(wake) ? Effect.succeed(wake) : pause(watch, wake)
              )
            }
            const source = wake === "gap" ? "notification" : isOver ? "lease" : "backstop"
            return Effect.andThen(Metric.update(QueryMetrics.wakeUps[source], 1), read(watch))
          }
        ))
  )

/** How many milliseconds are left of what the schedule waits after a record. */
const delayAfter = (
  { policy, step }: Pick<Watch<never>, "step" | "policy">,
  record: QueryRecord.QueryRecord,
  spentMillis: number
): Effect.Effect<number, StillPending> =>
  Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => step(nowMillis, policy.inputOf(record))).pipe(
    Effect.map(([, delay]) => Math.max(0, Duration.toMillis(delay) - spentMillis)),
    Pull.catchDone(() => Effect.fail(new StillPending({ record })))
  )

/**
 * Reads a record until it is wanted, and fails with the last one where the schedule ends before.
 *
 * `Effect.retry` with the schedule would race fibers so that a notification or a lease ends a delay, and take three times the memory
 * (benchmark: 100,000 waiters of 100,000 queries).
 */
const readUntil = <A extends QueryRecord.QueryRecord>(
  { isWanted, key, policy, store, waiter }: Omit<Watch<A>, "step">,
  changes: Changes
): Effect.Effect<A, StillPending | RedisStoreError> =>
  Effect.flatMap(
    Schedule.toStep(policy.schedule(changes)),
    // A spread would give every object a hidden class of its own (same benchmark).
    (step) => read({ store, key, waiter, isWanted, step, policy })
  )

const outcomeOf = (exit: Exit.Exit<unknown, StillPending | RedisStoreError>): QueryMetrics.WaitOutcome => {
  if (Exit.isSuccess(exit)) return "determinate"
  if (Cause.hasInterruptsOnly(exit.cause)) return "interrupted"
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  return error?._tag === "StillPending" ? "still_pending" : "failed"
}

// The monotonic clock is never set, so no wait takes less than no time.
const monotonicSeconds = (clock: Clock.Clock) => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000_000

const timed = <A, R>(self: Effect.Effect<A, StillPending | RedisStoreError, R>) =>
  Clock.clockWith((clock) => {
    const start = monotonicSeconds(clock)
    return Effect.onExit(
      self,
      (exit) => Metric.update(QueryMetrics.waitDuration[outcomeOf(exit)], monotonicSeconds(clock) - start)
    )
  })

const waitOn = <A extends QueryRecord.QueryRecord>(
  store: Store,
  record: QueryRecord.QueryRecord,
  { schedule, timeout }: QueryWait.Options,
  isEnd: (record: QueryRecord.QueryRecord) => record is A
): Effect.Effect<A, StillPending | RedisStoreError> => {
  if (isEnd(record)) return Effect.succeed(record)

  const { key } = record
  const policy = policyOf(schedule)
  let last: QueryRecord.QueryRecord = record
  const isWanted = (record: QueryRecord.QueryRecord): record is A => {
    last = record
    return isEnd(record)
  }
  // Subscribe first, read afterwards: a change in between is seen by one of the two.
  const wait = Effect.scoped(Effect.suspend(() => {
    const waiter = new Waiter()
    return Effect.flatMap(
      subscribe(store, key, waiter),
      (changes) => readUntil({ store, key, waiter, isWanted, policy }, changes)
    )
  }))
  return timed(
    timeout === undefined ? wait : Effect.timeoutOrElse(wait, {
      duration: timeout,
      orElse: () => Effect.fail(new StillPending({ record: last }))
    })
  )
}

/** Waits on from a record that is known already, until there is one that ends the wait. */
export const waitFrom = <A extends QueryRecord.QueryRecord>(
  store: Store,
  record: QueryRecord.QueryRecord,
  options: QueryWait.Options,
  isEnd: (record: QueryRecord.QueryRecord) => record is A
) => Trace.waiting(record.key, waitOn(store, record, options, isEnd))

export const waitUntilComplete = (store: Store, key: QueryKey, options: QueryWait.Options = {}) =>
  Trace.waiting(
    key,
    Effect.flatMap(store.read(key), (record) => waitOn(store, record, options, QueryRecord.isDeterminate))
  )

/** Wakes at progress, too, which leaves the version as it is. */
class ProgressWaiter extends Waiter {
  private progress: Progress | undefined

  override wait(known: QueryRecord.QueryRecord, millis: number): Effect.Effect<Wake> {
    return Effect.suspend(() => {
      this.progress = known.progress
      return super.wait(known, millis)
    })
  }

  protected override isNews(record: QueryRecord.QueryRecord): boolean {
    return super.isNews(record) || !Equal.equals(record.progress, this.progress)
  }
}

/** The record that was shown last, and the highest version that was shown. */
interface Shown {
  readonly record: QueryRecord.QueryRecord
  readonly highest: number
}

// Versions only go up, except that a deleted record has version 0. What was before the deletion may still arrive late.
const isNews = (record: QueryRecord.QueryRecord, shown: Shown | undefined): boolean =>
  shown === undefined || record.version > shown.highest || (record.version === 0 && shown.record.version > 0)
  || (record.version === shown.record.version && !Equal.equals(record.progress, shown.record.progress))

/** The current record, then every later one that is seen, for as long as the default schedule goes on. */
export const changes = (store: Store, key: QueryKey): Stream.Stream<QueryRecord.QueryRecord, RedisStoreError> =>
  Stream.unwrap(Effect.suspend(() => {
    const waiter = new ProgressWaiter()
    return Effect.map(
      subscribe(store, key, waiter),
      (changes) =>
        Stream.unfold<Shown | undefined, QueryRecord.QueryRecord, RedisStoreError, never>(
          undefined,
          (shown) => {
            const isWanted = (record: QueryRecord.QueryRecord): record is QueryRecord.QueryRecord =>
              isNews(record, shown)
            return readUntil({ store, key, waiter, isWanted, policy: defaultPolicy }, changes).pipe(
              Effect.map((record) =>
                [record, { record, highest: Math.max(record.version, shown?.highest ?? 0) }] as const
              ),
              Effect.catchTag("StillPending", () => Effect.undefined)
            )
          }
        )
    )
  }))
