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
import { holding } from "./holding.ts"
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

/**
 * What goes with the outcome of work: the claim that a success makes, if it makes one, for how long the record is kept, and what
 * is left behind.
 */
type With = (
  exit: Exit.Exit<unknown, unknown>
) => Pick<Command, "holder" | "lease" | "timeToLive" | "result"> | undefined

/** What goes with a success alone. */
export const withSuccess = (success: ReturnType<With>): With => (exit) => Exit.isSuccess(exit) ? success : undefined

export const withDefaults = ({ holder = defaultHolder, lease = QueryClaim.defaultLease }: QueryClaim.Options) => ({
  holder,
  lease
})

/** What is recorded of work that ended so. */
const outcomeOf = (
  { failure, interruption, success }: Kind,
  exit: Exit.Exit<unknown, unknown>,
  withOutcome: With
): Command => {
  if (Exit.isSuccess(exit)) return { event: success, ...withOutcome(exit) }
  const reason = Reason.fromCause(exit.cause)
  return reason._tag === "Interrupted"
    ? { event: interruption, reason }
    : { event: failure, reason, ...withOutcome(exit) }
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
  const result = yield* Effect.mapError(claiming, orCancelled)
  const { changed, record } = result
  return changed ? Result.succeed<Held>({ record, claimedAtMillis }) : Result.fail(result)
})

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** What the work of a claim came to, and the claim that its outcome made, if it made one. */
interface Settled<A> {
  readonly value: A
  readonly held: Held
}

/**
 * Does `work` while the lease of a claim is renewed, records the outcome, and ends as the work did, or with why the claim was
 * lost.
 */
const hold = <A, E, R>(store: Store, { claimedAtMillis, record }: Held, restore: Restore, options: {
  readonly kind: Kind
  readonly lease: Duration.Input
  readonly work: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E, R>
  readonly withOutcome: With
}): Effect.Effect<Result.Result<Settled<A>, Lost>, E | Lost | RedisStoreError, R> =>
  Effect.scoped(Effect.gen(function*() {
    yield* countHeld
    const lease = Duration.fromInputUnsafe(options.lease)
    const renewed = { atMillis: claimedAtMillis }
    const beating = yield* Effect.forkScoped(heartbeat(store, record, lease, renewed))
    const scope = yield* Effect.scope
    const claim: QueryClaim.QueryClaim = {
      ...QueryState.claimOf(record.state),
      fence: record.version,
      report: ProgressReports.make(store, record, lease, scope)
    }
    const work = Effect.suspend(() => options.work(claim))
    const worked: Result.Result<Exit.Exit<A, E>, Lost> = yield* holding(store, record, lease, scope, work).pipe(
      Effect.exit,
      Effect.map((exit) => Result.succeed(exit)),
      Effect.raceFirst(Effect.map(Fiber.join(beating), (lost) => Result.fail(lost))),
      restore,
      // Only an interruption of the caller can be caught here.
      Effect.catchCause((cause) => Effect.succeed(Result.succeed(Exit.failCause(cause))))
    )
    if (Result.isFailure(worked)) return Result.fail(worked.failure)
    const exit = worked.success
    const settledAtMillis = yield* monotonicMillis
    // A process that was frozen past its lease may get here before its heartbeat gives the claim up.
    const settling = settledAtMillis - renewed.atMillis >= usableMillis(lease)
      ? Effect.fail(new LeaseLost({ fence: record.version, record }))
      : settle(store, record, outcomeOf(options.kind, exit, options.withOutcome), lease, beating)
    const ended = yield* orBoth(exit, settling)
    return Result.map(
      ended,
      ({ record, value }): Settled<A> => ({ value, held: { record, claimedAtMillis: settledAtMillis } })
    )
  }))

/**
 * Claims a query, does `work` while the lease is renewed, and records the outcome before it ends as the work did. Where
 * `claim` did not change the query, it ends as `refused` does, and where the claim was lost, as `lost` does.
 *
 * Only `work` can be interrupted. Its finalizers have run before the outcome is recorded, and the lease is renewed until
 * then.
 */
export const claimed = <A, E, R, B, E2, C, E3>(store: Store, options: {
  readonly kind: Kind
  readonly claim: Effect.Effect<CommandResult, RedisStoreError | LeaseLost>
  readonly lease: Duration.Input
  readonly refused: (refused: CommandResult) => Effect.Effect<B, E2>
  readonly lost: (lost: Lost) => Effect.Effect<C, E3>
  readonly work: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E, R>
  readonly withOutcome: With
}): Effect.Effect<A | B | C, E | E2 | E3 | Lost | RedisStoreError, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const held = yield* claim(options.claim)
      if (Result.isFailure(held)) return yield* options.refused(held.failure)
      const settled = yield* hold(store, held.success, restore, options)
      return Result.isSuccess(settled) ? settled.success.value : yield* options.lost(settled.failure)
    })
  )

/**
 * Resets a query and executes it anew, without a step in which another process could claim it: the success of the purge and
 * the new claim are one command.
 */
export const purgedAndExecuted = <A, E, R, B, E2, C, E4, E3, R3>(store: Store, options: {
  readonly claim: Effect.Effect<CommandResult, RedisStoreError | LeaseLost>
  readonly claiming: ReturnType<typeof withDefaults>
  readonly refused: (refused: CommandResult) => Effect.Effect<B, E2>
  readonly lost: (lost: Lost) => Effect.Effect<C, E4>
  readonly purge: (claim: QueryClaim.QueryClaim) => Effect.Effect<unknown, E3, R3>
  readonly work: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E, R>
  readonly withOutcome: With
}): Effect.Effect<A | B | C, E | E2 | E3 | E4 | Lost | RedisStoreError, R | R3> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const { claiming, lost, purge, refused, withOutcome, work } = options
      const { lease } = claiming
      const held = yield* claim(options.claim)
      if (Result.isFailure(held)) return yield* refused(held.failure)
      const purged = yield* hold(store, held.success, restore, {
        kind: purgeBeforeExecution,
        lease,
        work: purge,
        withOutcome: withSuccess(claiming)
      })
      if (Result.isFailure(purged)) return yield* lost(purged.failure)
      const settled = yield* hold(store, purged.success.held, restore, { kind: execution, lease, work, withOutcome })
      return Result.isSuccess(settled) ? settled.success.value : yield* lost(settled.failure)
    })
  )

/** Does work of one kind, with defaults for its claim; a query in a state that has no such claim is an error. */
export const claimedWork = <A, E, R>(
  store: Store,
  key: QueryKey,
  kind: Kind,
  work: (claim: QueryClaim.QueryClaim) => Effect.Effect<A, E, R>,
  { fence, ifVersion, timeToLive, ...options }: QueryClaim.ExecutionOptions & QueryClaim.ResetOptions = {}
): Effect.Effect<A, E | Lost | IllegalTransition | RedisStoreError, R> => {
  const claiming = withDefaults(options)
  return claimed(store, {
    kind,
    claim: store.compareAndSet(key, { event: kind.claim, fence, ifVersion, ...claiming }),
    lease: claiming.lease,
    refused: ({ record }) =>
      Effect.fail(
        ifVersion === undefined || ifVersion === record.version
          ? Transition.refusal(record, kind.claim)
          : new LeaseLost({ fence: ifVersion, record })
      ),
    lost: Effect.fail,
    work,
    withOutcome: withSuccess({ timeToLive })
  }).pipe(Trace.spanned(kind.span, () => Trace.attributesOf(key)))
}

/**
 * Ends as the work did, once its outcome is settled, or with why the claim was lost. An error of settling is added to that of
 * work that failed.
 */
const orBoth = <A, E>(
  exit: Exit.Exit<A, E>,
  settling: Effect.Effect<CommandResult, LeaseLost | RedisStoreError>
): Effect.Effect<
  Result.Result<{ readonly value: A; readonly record: QueryRecord }, Lost>,
  E | Lost | RedisStoreError
> =>
  settling.pipe(
    Effect.mapError(orCancelled),
    Effect.matchEffect({
      onSuccess: ({ record }) => Effect.map(exit, (value) => Result.succeed({ value, record })),
      onFailure: (error) => {
        if (Exit.isSuccess(exit)) {
          return error._tag === "RedisStoreError" ? Effect.fail(error) : Effect.succeed(Result.fail(error))
        }
        // An interrupted caller does not need to know that the outcome was decided before.
        return error._tag !== "RedisStoreError" && Cause.hasInterruptsOnly(exit.cause)
          ? Effect.failCause(exit.cause)
          : Effect.failCause(Cause.combine(exit.cause, Cause.fail(error)))
      }
    })
  )
