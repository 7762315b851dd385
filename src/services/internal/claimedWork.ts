/** Work under a claim: claim the query, do the work while a heartbeat renews the lease, record the outcome. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Result from "effect/Result"
import { type IllegalTransition, LeaseLost } from "../../domain/QueryError.ts"
import type { QueryEvent } from "../../domain/QueryEvent.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import * as QueryState from "../../domain/QueryState.ts"
import * as Reason from "../../domain/Reason.ts"
import * as Transition from "../../domain/Transition.ts"
import * as QueryClaim from "../QueryClaim.ts"
import * as QueryMetrics from "../QueryMetrics.ts"
import type { Command, CommandResult, RedisStore } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"
import { heartbeat, type Lost, monotonicMillis, orCancelled, usableMillis } from "./heartbeat.ts"
import { defaultHolder } from "./holder.ts"
import * as ProgressReports from "./progressReports.ts"
import { settle } from "./settle.ts"
import * as Trace from "./trace.ts"

type Store = RedisStore["Service"]

/** A kind of claimed work: the event that claims, the events that say how it went, and its name in a trace. */
interface Kind {
  readonly span: string
  readonly claim: QueryEvent
  readonly success: Transition.Path
  readonly failure: QueryEvent
  readonly interruption: QueryEvent
}

export const execution: Kind = {
  span: "QueryStateMachine.withExecution",
  claim: "Execute",
  success: "Finish",
  failure: "Error",
  interruption: "Cancel"
}
export const reset: Kind = {
  span: "QueryStateMachine.withReset",
  claim: "Reset",
  success: "FinishReset",
  failure: "Error",
  interruption: "Error"
}

/** A reset that ends with the claim of the execution after it. */
const purgeBeforeExecution: Kind = { ...reset, success: ["FinishReset", "Queue", "Execute"] }

/** The claim that a success makes, if it makes one. */
type Next = Pick<Command, "holder" | "lease"> | undefined

export const withDefaults = ({ holder = defaultHolder, lease = QueryClaim.defaultLease }: QueryClaim.Options) => ({
  holder,
  lease
})

/** What is recorded of work that ended so; a success may claim the query anew, for what comes next. */
const outcomeOf = (
  { failure, interruption, success }: Kind,
  exit: Exit.Exit<unknown, unknown>,
  next: Next
): Command => {
  if (Exit.isSuccess(exit)) return { event: success, ...next }
  const reason = Reason.fromCause(exit.cause)
  return { event: reason._tag === "Interrupted" ? interruption : failure, reason }
}

const countHeld = Effect.acquireRelease(
  Metric.update(QueryMetrics.claimsHeld, 1),
  () => Metric.update(QueryMetrics.claimsHeld, -1)
)

/** A claim that a query was given. */
interface Held {
  readonly record: QueryRecord
  /** By the monotonic clock, before the claim was sent. */
  readonly claimedAtMillis: number
}

const claim = Effect.fnUntraced(function*(claiming: Effect.Effect<CommandResult, RedisStoreError | LeaseLost>) {
  const claimedAtMillis = yield* monotonicMillis
  const { changed, record } = yield* Effect.mapError(claiming, orCancelled)
  return changed ? Result.succeed<Held>({ record, claimedAtMillis }) : Result.fail(record)
})

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** Does `work` while the lease of a claim is renewed, records the outcome, and ends as the work did. */
const hold = <A, E, R>(store: Store, { claimedAtMillis, record }: Held, restore: Restore, options: {
  readonly kind: Kind
  readonly lease: Duration.Input
  readonly work: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E, R>
  readonly next?: Next | undefined
}): Effect.Effect<{ readonly value: A; readonly settled: Held }, E | Lost | RedisStoreError, R> =>
  Effect.scoped(Effect.gen(function*() {
    yield* countHeld
    const lease = Duration.fromInputUnsafe(options.lease)
    const renewed = { atMillis: claimedAtMillis }
    const beating = yield* Effect.forkScoped(heartbeat(store, record, lease, renewed))
    const claim: QueryClaim.QueryClaim = {
      ...QueryState.claimOf(record.state),
      fence: record.version,
      report: ProgressReports.make(store, record, lease, yield* Effect.scope)
    }
    const worked: Result.Result<Exit.Exit<A, E>, Lost> = yield* Effect.suspend(() => options.work(claim)).pipe(
      Effect.exit,
      Effect.map((exit) => Result.succeed(exit)),
      Effect.raceFirst(Effect.map(Fiber.join(beating), (lost) => Result.fail(lost))),
      restore,
      // Only an interruption of the caller can be caught here.
      Effect.catchCause((cause) => Effect.succeed(Result.succeed(Exit.failCause(cause))))
    )
    const exit = yield* Effect.fromResult(worked)
    const settledAtMillis = yield* monotonicMillis
    // A process that was frozen past its lease may get here before its heartbeat gives the claim up.
    const settling = settledAtMillis - renewed.atMillis >= usableMillis(lease)
      ? Effect.fail(new LeaseLost({ fence: record.version, record }))
      : settle(store, record, outcomeOf(options.kind, exit, options.next), lease, beating)
    const { settled, value } = yield* orBoth(exit, settling)
    return { value, settled: { record: settled, claimedAtMillis: settledAtMillis } }
  }))

/**
 * Claims a query, does `work` while the lease is renewed, and records the outcome before it ends as the work did. Where
 * `claim` did not change the query, it ends as `refused` does.
 *
 * Only `work` can be interrupted. Its finalizers have run before the outcome is recorded, and the lease is renewed until
 * then.
 */
export const claimed = <A, E, R, B, E2>(store: Store, options: {
  readonly kind: Kind
  readonly claim: Effect.Effect<CommandResult, RedisStoreError | LeaseLost>
  readonly lease: Duration.Input
  readonly refused: (record: QueryRecord) => Effect.Effect<B, E2>
  readonly work: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E, R>
}): Effect.Effect<A | B, E | E2 | Lost | RedisStoreError, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      claim(options.claim),
      (held): Effect.Effect<A | B, E | E2 | Lost | RedisStoreError, R> =>
        Result.isSuccess(held)
          ? Effect.map(hold(store, held.success, restore, options), ({ value }) => value)
          : options.refused(held.failure)
    )
  )

/**
 * Resets a query and executes it anew, without a step in which another process could claim it: the success of the purge and
 * the new claim are one command.
 */
export const purgedAndExecuted = <A, E, R, B, E2, E3, R3>(store: Store, options: {
  readonly claim: Effect.Effect<CommandResult, RedisStoreError | LeaseLost>
  readonly claiming: ReturnType<typeof withDefaults>
  readonly refused: (record: QueryRecord) => Effect.Effect<B, E2>
  readonly purge: (claim: QueryClaim.QueryClaim) => Effect.Effect<unknown, E3, R3>
  readonly work: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E, R>
}): Effect.Effect<A | B, E | E2 | E3 | Lost | RedisStoreError, R | R3> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const { claiming, purge, refused, work } = options
      const { lease } = claiming
      const held = yield* claim(options.claim)
      if (Result.isFailure(held)) return yield* refused(held.failure)
      const { settled } = yield* hold(store, held.success, restore, {
        kind: purgeBeforeExecution,
        lease,
        work: purge,
        next: claiming
      })
      const { value } = yield* hold(store, settled, restore, {
        kind: execution,
        lease,
        work
      })
      return value
    })
  )

/** Does work of one kind, with defaults for its claim; a query in a state that has no such claim is an error. */
export const claimedWork = <A, E, R>(
  store: Store,
  key: QueryKey,
  kind: Kind,
  work: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E, R>,
  { fence, ifVersion, ...options }: QueryClaim.ExecutionOptions & QueryClaim.ResetOptions = {}
): Effect.Effect<A, E | Lost | IllegalTransition | RedisStoreError, R> => {
  const claiming = withDefaults(options)
  return claimed(store, {
    kind,
    claim: store.compareAndSet(key, { event: kind.claim, fence, ifVersion, ...claiming }),
    lease: claiming.lease,
    refused: (record) =>
      Effect.fail(
        ifVersion === undefined || ifVersion === record.version
          ? Transition.refusal(record, kind.claim)
          : new LeaseLost({ fence: ifVersion, record })
      ),
    work
  }).pipe(Trace.spanned(kind.span, () => Trace.attributesOf(key)))
}

/** Ends as the work did, once its outcome is settled. An error of settling is added to that of the work. */
const orBoth = <A, E>(
  exit: Exit.Exit<A, E>,
  settling: Effect.Effect<CommandResult, LeaseLost | RedisStoreError>
): Effect.Effect<{ readonly value: A; readonly settled: QueryRecord }, E | Lost | RedisStoreError> =>
  settling.pipe(
    Effect.mapError(orCancelled),
    Effect.matchEffect({
      onSuccess: ({ record }) => Effect.map(exit, (value) => ({ value, settled: record })),
      onFailure: (error) => {
        if (Exit.isSuccess(exit)) return Effect.fail(error)
        // An interrupted caller does not need to know that the outcome was decided before.
        return error._tag !== "RedisStoreError" && Cause.hasInterruptsOnly(exit.cause)
          ? Effect.failCause(exit.cause)
          : Effect.failCause(Cause.combine(exit.cause, Cause.fail(error)))
      }
    })
  )
