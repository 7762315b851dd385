/** Waiting for a query: looks when its schedule says so, when a change is hinted at, and when a lease may have lapsed. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { StillPending } from "../../domain/QueryError.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import * as QueryState from "../../domain/QueryState.ts"
import * as QueryMetrics from "../QueryMetrics.ts"
import type { DeterminateRecord } from "../QueryStateMachine.ts"
import type { Changes, RedisStore } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"
import { Bell } from "./bell.ts"
import * as Trace from "./trace.ts"

type Store = RedisStore["Service"]

const isDeterminate = (record: QueryRecord): record is DeterminateRecord => QueryState.isDeterminate(record.state)

/**
 * Lets the hints of a query ring a bell, and answers whether all its changes are announced. Where subscribing fails there
 * are no hints, and the schedule alone says when to look.
 */
export const subscribe = (store: Store, key: QueryKey, bell: Bell): Effect.Effect<Changes, never, Scope.Scope> =>
  Effect.catch(
    store.changes(key, bell),
    (error) => Effect.as(Effect.logDebug("Waiting without notifications", error), { announcesAll: false })
  )

// A lease that is over by now, as far as it is known here, is looked at again after this time, and not at once.
const leastMillis = 10

/** In how many milliseconds the claim of a record ends if nobody renews it. */
const leaseMillisLeft = (store: Store, { state }: QueryRecord): Effect.Effect<number> => {
  const expiresAt = QueryState.claimOf(state)?.expiresAt
  return expiresAt === undefined
    ? Effect.succeed(Number.POSITIVE_INFINITY)
    : Effect.map(
      store.currentTime,
      (now) => Math.max(DateTime.toEpochMillis(expiresAt) - DateTime.toEpochMillis(now), leastMillis)
    )
}

/** When to look: a schedule, given what the store announces, and what it goes by. */
export interface Policy {
  readonly schedule: (changes: Changes) => Schedule.Schedule<unknown, unknown>
  /** What the schedule is told of a record that is pending. */
  readonly inputOf: (record: QueryRecord) => unknown
}

type Step = Effect.Success<ReturnType<typeof Schedule.toStep<unknown, unknown, never, never>>>

/** What a wait goes by. */
interface Watch<A extends QueryRecord> {
  readonly store: Store
  readonly key: QueryKey
  readonly bell: Bell
  readonly isWanted: (record: QueryRecord) => record is A
  readonly step: Step
  readonly policy: Policy
}

/** Looks until there is what is wanted, and fails with the last record where the schedule ends before. */
const look = <A extends QueryRecord>(watch: Watch<A>): Effect.Effect<A, StillPending | RedisStoreError> =>
  Effect.filterOrElse(watch.store.read(watch.key), watch.isWanted, (record) => pause(watch, record))

const pause = <A extends QueryRecord>(
  watch: Watch<A>,
  record: QueryRecord
): Effect.Effect<A, StillPending | RedisStoreError> =>
  Effect.flatMap(
    delayAfter(watch, record),
    (delayMillis) =>
      Effect.flatMap(leaseMillisLeft(watch.store, record), (leaseMillis) =>
        Effect.flatMap(
          watch.bell.wait(record.version, Math.min(delayMillis, leaseMillis)),
          (wake) => {
            const isLease = leaseMillis <= delayMillis
            if (wake === "looked" && !isLease) return pause(watch, record)
            const source = wake === "hint" ? "hint" : isLease ? "lease" : "backstop"
            return Effect.withFiber(({ context }) => {
              QueryMetrics.wakeUps[source].updateUnsafe(1, context)
              return look(watch)
            })
          }
        ))
  )

/** How many milliseconds the schedule waits after a record. */
const delayAfter = (
  { policy, step }: Pick<Watch<never>, "step" | "policy">,
  record: QueryRecord
): Effect.Effect<number, StillPending> =>
  Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => step(nowMillis, policy.inputOf(record))).pipe(
    Effect.map(([, delay]) => Duration.toMillis(delay)),
    Pull.catchDone(() => Effect.fail(new StillPending({ record })))
  )

/**
 * Reads a record until it is one to answer with, and fails with the last one where the schedule ends before.
 *
 * It is `Effect.retry` on the schedule, written out: with a delay that a hint and a lease can end, that would take three
 * times the memory while it waits, mostly for fibers that race each other.
 */
const readUntil = <A extends QueryRecord>(
  { bell, isWanted, key, policy, store }: Omit<Watch<A>, "step">,
  changes: Changes
): Effect.Effect<A, StillPending | RedisStoreError> =>
  Effect.flatMap(
    Schedule.toStep(policy.schedule(changes)),
    // Named one by one: an object that is made of the rest of another has a shape of its own, which takes more than itself.
    (step) => look({ store, key, bell, isWanted, step, policy })
  )

const outcomeOf = (exit: Exit.Exit<unknown, StillPending | RedisStoreError>): QueryMetrics.WaitOutcome => {
  if (Exit.isSuccess(exit)) return "determinate"
  if (Cause.hasInterruptsOnly(exit.cause)) return "interrupted"
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  return error?._tag === "StillPending" ? "still_pending" : "failed"
}

// By the clock that is never set, or a wait could take less than no time.
const monotonicSeconds = (clock: Clock.Clock) => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000_000

const timed = <A, R>(self: Effect.Effect<A, StillPending | RedisStoreError, R>) =>
  Clock.clockWith((clock) => {
    const start = monotonicSeconds(clock)
    return Effect.onExit(self, (exit) =>
      Effect.withFiber(({ context }) => {
        QueryMetrics.waitDuration[outcomeOf(exit)].updateUnsafe(monotonicSeconds(clock) - start, context)
        return Effect.void
      }))
  })

export interface WaitOptions {
  readonly policy: Policy
  readonly timeout: Duration.Input | undefined
}

const waitOn = (
  store: Store,
  record: QueryRecord,
  { policy, timeout }: WaitOptions
): Effect.Effect<DeterminateRecord, StillPending | RedisStoreError> => {
  if (isDeterminate(record)) return Effect.succeed(record)

  const { key } = record
  let last = record
  const isWanted = (record: QueryRecord): record is DeterminateRecord => {
    last = record
    return isDeterminate(record)
  }
  // Subscribe first, read afterwards: a change in between is seen by one of the two.
  const wait = Effect.scoped(Effect.suspend(() => {
    const bell = new Bell()
    return Effect.flatMap(
      subscribe(store, key, bell),
      (changes) => readUntil({ store, key, bell, isWanted, policy }, changes)
    )
  }))
  return timed(
    timeout === undefined ? wait : Effect.timeoutOrElse(wait, {
      duration: timeout,
      orElse: () => Effect.fail(new StillPending({ record: last }))
    })
  )
}

/** Waits on from a record that was read, or that a command was answered with. */
export const waitFrom = (store: Store, record: QueryRecord, options: WaitOptions) =>
  Trace.waiting(record.key, waitOn(store, record, options))

export const waitUntilComplete = (store: Store, key: QueryKey, options: WaitOptions) =>
  Trace.waiting(key, Effect.flatMap(store.read(key), (record) => waitOn(store, record, options)))

/** Rings at progress, too. */
class ProgressBell extends Bell {
  onProgress(): void {
    this.onHint(Number.POSITIVE_INFINITY)
  }

  /** That others have looked is no reason not to: the version that they have seen does not tell of progress. */
  override ring(): void {
    this.wake("time")
  }
}

// Versions only go up, but for a record that was deleted, which has version 0 again.
const isNews = (record: QueryRecord, seen: QueryRecord | undefined): boolean =>
  seen === undefined || record.version > seen.version || (record.version === 0 && seen.version > 0)
  || (record.version === seen.version && !Equal.equals(record.progress, seen.progress))

/** The current record, then every later one that is seen, for as long as the policy goes on. */
export const changes = (store: Store, key: QueryKey, policy: Policy): Stream.Stream<QueryRecord, RedisStoreError> =>
  Stream.unwrap(Effect.suspend(() => {
    const bell = new ProgressBell()
    return Effect.map(
      subscribe(store, key, bell),
      (changes) =>
        Stream.unfold<QueryRecord | undefined, QueryRecord, RedisStoreError, never>(undefined, (seen) => {
          const isWanted = (record: QueryRecord): record is QueryRecord => isNews(record, seen)
          return readUntil({ store, key, bell, isWanted, policy }, changes).pipe(
            Effect.map((record) => [record, record] as const),
            Effect.catchTag("StillPending", () => Effect.undefined)
          )
        })
    )
  }))
