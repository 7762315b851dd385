/** Owning a query while work is done for it: claim, heartbeat, and a record of what became of it. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { LeaseLost, QueryCancelled } from "../../domain/QueryError.ts"
import type { QueryEvent } from "../../domain/QueryEvent.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import * as QueryState from "../../domain/QueryState.ts"
import * as Reason from "../../domain/Reason.ts"
import * as QueryMetrics from "../QueryMetrics.ts"
import type { HeldClaim } from "../QueryStateMachine.ts"
import type { Command, CommandResult, RedisStore } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"
import { Bell } from "./bell.ts"
import * as Report from "./report.ts"
import * as Trace from "./trace.ts"
import { subscribe } from "./wait.ts"

type Store = RedisStore["Service"]

/** What owned work is called in a trace, and which events say how it went. */
export interface Events {
  readonly span: string
  readonly success: QueryEvent
  readonly failure: QueryEvent
  readonly interruption: QueryEvent
}

export const execution: Events = {
  span: "QueryStateMachine.withExecution",
  success: "Finish",
  failure: "Error",
  interruption: "Cancel"
}
export const reset: Events = {
  span: "QueryStateMachine.withReset",
  success: "FinishReset",
  failure: "Error",
  interruption: "Error"
}

/** Why a claim ended before its work did. */
type Lost = LeaseLost | QueryCancelled

// What of a lease is left unused, for the clocks of two machines do not run at quite the same pace, and an interruption
// takes its time.
const safety = 0.1

const monotonicMillis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1_000_000)

/** Tells a claim that somebody cancelled from one that was lost. */
const whyLost = (lost: LeaseLost): Lost => {
  const { key, state } = lost.record
  return state._tag === "Cancelled" && state.reason._tag !== "LeaseExpired"
    ? new QueryCancelled({ key, reason: state.reason })
    : lost
}

const orWhyLost = (error: LeaseLost | RedisStoreError): Lost | RedisStoreError =>
  error._tag === "LeaseLost" ? whyLost(error) : error

/**
 * Renews a claim until it is lost: every third of its lease, and whenever a change of the query is hinted at.
 *
 * It trusts its own clock no less than the answers of the store: counted from before the last renewal that was answered
 * had been sent, it gives the claim up before the store can have done so, whatever may hang.
 */
const keep = Effect.fnUntraced(function*(
  store: Store,
  record: QueryRecord,
  lease: Duration.Duration,
  claimedAtMillis: number
): Effect.fn.Return<Lost, never, Scope.Scope> {
  const { key, version: fence } = record
  const givenUp = () => new LeaseLost({ fence, record })
  const usableMillis = Duration.toMillis(lease) * (1 - safety)
  const heartbeatMillis = Duration.toMillis(lease) / 3
  let renewedAtMillis = claimedAtMillis
  let delayMillis = heartbeatMillis

  // Subscribing is not waited for: the heartbeat must not depend on it. What happened before it is found by the renewal
  // that follows it.
  const bell = new Bell()
  yield* subscribe(store, key, bell).pipe(
    Effect.tap(() => Effect.sync(() => bell.onHint(Number.POSITIVE_INFINITY))),
    Effect.forkScoped
  )

  while (true) {
    const untilGivenUp = renewedAtMillis + usableMillis - (yield* monotonicMillis)
    yield* bell.wait(fence, Math.min(delayMillis, untilGivenUp))
    // What rang may be the end of this very claim; whoever ended it comes first.
    yield* Effect.yieldNow
    const sentAtMillis = yield* monotonicMillis
    const left = renewedAtMillis + usableMillis - sentAtMillis
    if (left <= 0) return givenUp()
    const renewed = yield* Effect.timeoutOption(Effect.result(store.renew(key, fence, lease)), left)
    if (Option.isNone(renewed)) return givenUp()
    if (Result.isSuccess(renewed.value)) {
      renewedAtMillis = sentAtMillis
      delayMillis = heartbeatMillis
    } else if (renewed.value.failure._tag === "LeaseLost") {
      return whyLost(renewed.value.failure)
    } else {
      delayMillis = heartbeatMillis / 3
    }
  }
})

const outcomeOf = (events: Events, exit: Exit.Exit<unknown, unknown>): Command => {
  if (Exit.isSuccess(exit)) return { event: events.success }
  const reason = Reason.fromCause(exit.cause)
  return { event: reason._tag === "Interrupted" ? events.interruption : events.failure, reason }
}

const holding = Effect.acquireRelease(
  Metric.update(QueryMetrics.claimsHeld, 1),
  () => Metric.update(QueryMetrics.claimsHeld, -1)
)

/**
 * Claims a query, runs `work` while the claim is kept, and records how it went before it answers. Where `claim` did not
 * change the query, that is answered by `refused` instead.
 *
 * To claim and to record are not interruptible, `work` is. Its finalizers have run before anything is recorded, and until
 * then the claim is kept.
 */
export const owned = <A, E, R, B, E2>(store: Store, key: QueryKey, options: {
  readonly claim: Effect.Effect<CommandResult, RedisStoreError | LeaseLost>
  readonly lease: Duration.Input
  readonly events: Events
  readonly refused: (record: QueryRecord) => Effect.Effect<B, E2>
  readonly work: (claim: HeldClaim) => Effect.Effect<A, E, R>
}): Effect.Effect<A | B, E | E2 | Lost | RedisStoreError, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const claimedAtMillis = yield* monotonicMillis
      const { changed, record } = yield* Effect.mapError(options.claim, orWhyLost)
      if (!changed) return yield* options.refused(record)

      const held = Effect.gen(function*() {
        yield* holding
        const lease = Duration.fromInputUnsafe(options.lease)
        const keeper = yield* Effect.forkScoped(keep(store, record, lease, claimedAtMillis))
        const claim: HeldClaim = {
          ...QueryState.claimOf(record.state),
          fence: record.version,
          report: Report.make(store, record, lease, yield* Effect.scope)
        }
        const worked: Result.Result<Exit.Exit<A, E>, Lost> = yield* Effect.suspend(() => options.work(claim)).pipe(
          Effect.exit,
          Effect.map((exit) => Result.succeed(exit)),
          Effect.raceFirst(Effect.map(Fiber.join(keeper), (lost) => Result.fail(lost))),
          restore,
          // All that can be caught here is that the caller was interrupted.
          Effect.catchCause((cause) => Effect.succeed(Result.succeed(Exit.failCause(cause))))
        )
        const exit = yield* Effect.fromResult(worked)
        return yield* settle(store, record, options.events, exit)
      })
      return yield* Effect.scoped(held)
    })
  ).pipe(Trace.spanned(options.events.span, () => Trace.attributesOf(key)))

/** Records how work went, and answers as the work did; what goes wrong with recording it is not swallowed. */
const settle = <A, E>(
  store: Store,
  claimed: QueryRecord,
  events: Events,
  exit: Exit.Exit<A, E>
): Effect.Effect<A, E | Lost | RedisStoreError> =>
  store.compareAndSet(claimed.key, { ...outcomeOf(events, exit), fence: claimed.version }).pipe(
    Effect.mapError(orWhyLost),
    Effect.matchEffect({
      onSuccess: () => exit,
      onFailure: (error): Effect.Effect<A, E | Lost | RedisStoreError> => {
        if (Exit.isSuccess(exit)) return Effect.fail(error)
        // Whoever was interrupted need not hear that somebody else had decided the query before.
        return error._tag !== "RedisStoreError" && Cause.hasInterruptsOnly(exit.cause)
          ? exit
          : Effect.failCause(Cause.combine(exit.cause, Cause.fail(error)))
      }
    })
  )
