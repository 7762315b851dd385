/** Running a query once, and joining a run that is under way. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type { LeaseLost } from "../../domain/QueryError.ts"
import * as QueryError from "../../domain/QueryError.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import * as QueryRecord from "../../domain/QueryRecord.ts"
import type * as QueryState from "../../domain/QueryState.ts"
import type { QueryClaim } from "../QueryClaim.ts"
import * as QueryRun from "../QueryRun.ts"
import type * as QueryWait from "../QueryWait.ts"
import type { Command, CommandResult, RedisStore, Results } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"
import * as ClaimedWork from "./claimedWork.ts"
import { coalesced } from "./coalescedClaims.ts"
import * as Cycles from "./cycles.ts"
import { isHandedOver, type Lost } from "./heartbeat.ts"
import * as Trace from "./trace.ts"

type Store = RedisStore["Service"]

// A caller that loses one race after the other tries again soon, but not at once.
const afterLostRace = Schedule.min([Schedule.exponential("10 millis"), Schedule.spaced("1 second")]).pipe(
  Schedule.jittered
)

export const failure = (key: QueryKey, state: QueryState.Failed, attempts: number) => {
  const { reason } = state
  switch (state._tag) {
    case "Errored":
      return new QueryError.QueryErrored({ key, reason, attempts })
    case "Cancelled":
      return isHandedOver(reason)
        ? new QueryError.QueryErrored({ key, reason, attempts })
        : new QueryError.QueryCancelled({ key, reason })
    case "ResetFailed":
      return new QueryError.QueryResetFailed({ key, reason })
  }
}

/** What a caller sees of a query: its record and, where that is known already, what runs left behind. */
export interface Seen<R extends QueryRecord.QueryRecord = QueryRecord.QueryRecord> {
  readonly record: R
  readonly results?: Results | undefined
}

/** Result of a race for a query: the result of the work, or what was seen where somebody else was faster. */
type Race<A> = Result.Result<A, Seen>

const won = <A>(value: A): Race<A> => Result.succeed(value)
const lostRace = <A>(seen: Seen): Effect.Effect<Race<A>> => Effect.succeed(Result.fail(seen))

/** A claim that was lost, by a process that was frozen or cut off, is a race that was lost. A cancel is an error. */
const lostClaim = <A>(lost: Lost): Effect.Effect<Race<A>, Lost> =>
  lost._tag === "LeaseLost" ? lostRace({ record: lost.record }) : Effect.fail(lost)

/**
 * Claims a query. Where Redis has no memory for a claim, the record is read: a run that is under way can be joined. A record
 * that was to be taken over, and is as it was, gives nothing to go on from.
 */
const claimOrRead = (store: Store, key: QueryKey, command: Command): Effect.Effect<
  CommandResult,
  RedisStoreError | LeaseLost
> =>
  Effect.catchIf(
    store.compareAndSet(key, command),
    (error) => error._tag === "RedisStoreError" && error.reason._tag === "OutOfMemory",
    (error) =>
      Effect.flatMap(
        store.read(key),
        (record) =>
          record.state._tag === "Known" || record.version === command.ifVersion
            ? Effect.fail(error)
            : Effect.succeed({ record, changed: false })
      )
  )

/** Whether a record is older than `maxAge`, by the clock of the store. */
export const isTooOld = (
  store: Store,
  { changedAt }: QueryRecord.QueryRecord,
  maxAge: Duration.Input | undefined
): Effect.Effect<boolean> =>
  maxAge === undefined || changedAt === undefined
    ? Effect.succeed(false)
    : Effect.map(
      store.currentTime,
      (now) => Duration.isGreaterThan(DateTime.distance(changedAt, now), Duration.fromInputUnsafe(maxAge))
    )

/** How a query is run, and what is done about what a caller finds. */
export interface Plan<A, E1, R1, E2, R2, E3, R3, E4, R4> {
  /** Goes with every claim. */
  readonly claiming: ReturnType<typeof ClaimedWork.withDefaults> & Pick<Command, "label" | "result">
  readonly execute: (claim: QueryClaim) => Effect.Effect<A, E1, R1>
  readonly withOutcome: Parameters<typeof ClaimedWork.claimed>[1]["withOutcome"]
  /** Where claimed work runs: in the fiber of its caller, or elsewhere. */
  readonly place: <B, E, R>(claimed: Effect.Effect<B, E, R>) => Effect.Effect<B, E, R>
  /** What a run left behind that is Completed or Errored; none if there is nothing. */
  readonly left: (seen: Seen<QueryRecord.Determinate>) => Effect.Effect<Option.Option<Exit.Exit<A, E2>>, E2, R2>
  /** An answer to what a caller finds, before anything else is done about it. It can have the query run again. */
  readonly answer: (
    found: Seen,
    takeOver: Effect.Effect<unknown, unknown, R1 | R3>
  ) => Effect.Effect<Option.Option<A>, E2, R1 | R2 | R3>
  readonly purge?: ((claim: QueryClaim) => Effect.Effect<unknown, E3, R3>) | undefined
  readonly recover?: QueryRun.Options<A, E1, R1, E2, R2, E3, R3, E4, R4>["recover"]
  readonly maxAttempts: number
  readonly maxAge?: Duration.Input | undefined
  readonly wait: QueryWait.Options
  /** Name of the span around all of it. Default: `QueryStateMachine.run`. */
  readonly span?: string | undefined
}

export const runBy = <A, E1, R1, E2, R2, E3, R3, E4, R4>(
  store: Store,
  key: QueryKey,
  plan: Plan<A, E1, R1, E2, R2, E3, R3, E4, R4>
): Effect.Effect<A, E1 | E2 | E3 | E4 | QueryRun.Error, R1 | R2 | R3 | R4> => {
  const { claiming, maxAge, maxAttempts, purge, recover } = plan
  const working = {
    refused: lostRace<A>,
    lost: lostClaim<A>,
    work: (claim: QueryClaim) => Effect.map(plan.execute(claim), won),
    withOutcome: plan.withOutcome
  }

  const executeAfter = (command: Command) =>
    plan.place(ClaimedWork.claimed(store, {
      ...working,
      kind: ClaimedWork.execution,
      claim: coalesced(store, key, claimOrRead(store, key, { ...command, ...claiming })),
      lease: claiming.lease
    }))

  const begin = executeAfter({ event: ["Queue", "Execute"] })

  // Takes over only the version that was seen: another process may have run the query again, and have its result by now.
  const takeOver = (ifVersion: number) =>
    purge === undefined
      ? executeAfter({ event: ["Reset", "FinishReset", "Queue", "Execute"], ifVersion })
      : plan.place(ClaimedWork.purgedAndExecuted(store, {
        ...working,
        claim: coalesced(store, key, store.compareAndSet(key, { event: "Reset", ifVersion, ...claiming })),
        claiming,
        purge
      }))

  // Whoever was interrupted was allowed to run the query, and passes that on to those who waited.
  const mayGoOn = ({ reason }: QueryState.Failed, attempts: number, isFound: boolean): boolean =>
    isHandedOver(reason) && (attempts < maxAttempts || (!isFound && reason._tag === "Interrupted"))

  const isRecovered = (found: QueryRun.Found): Effect.Effect<boolean, E4, R4> => {
    const answer = recover?.(found) ?? false
    return Effect.isEffect(answer) ? answer : Effect.succeed(answer)
  }

  /** Goes on from a query that is not pending. `isFound` where this caller did not wait for what it has become. */
  const goOn = Effect.fnUntraced(function*(seen: Seen<QueryRecord.Determinate>, isFound: boolean) {
    const { attempts, state, version } = seen.record
    switch (state._tag) {
      case "Known":
        return yield* begin
      case "Completed": {
        if (isFound && (yield* isTooOld(store, seen.record, maxAge))) return yield* takeOver(version)
        const left = yield* plan.left(seen)
        return Option.isSome(left) ? won(yield* left.value) : yield* takeOver(version)
      }
      default: {
        if (mayGoOn(state, attempts, isFound)) return yield* takeOver(version)
        if (isFound && (yield* isRecovered({ state, attempts }))) return yield* takeOver(version)
        const left = state._tag === "Errored" ? yield* plan.left(seen) : Option.none()
        return Option.isSome(left) ? won(yield* left.value) : yield* failure(key, state, attempts)
      }
    }
  })

  return Effect.gen(function*() {
    const first = yield* begin
    if (Result.isSuccess(first)) return first.success
    let latest = first.failure
    const answered = yield* plan.answer(latest, Effect.suspend(() => takeOver(latest.record.version)))
    if (Option.isSome(answered)) return answered.value
    let isFound = QueryRecord.isDeterminate(latest.record)
    const race = Effect.gen(function*() {
      const { record, results } = latest
      const end = yield* Cycles.waitFrom(store, record, plan.wait)
      const next = yield* goOn({ record: end, results: isFound ? results : undefined }, isFound)
      return Result.mapError(next, (seen) => {
        // Another claim of this process can answer ours, and leave what was found as it was.
        if (seen.record.version !== end.version) isFound = false
        return latest = seen
      })
    })
    // The winner holds the query by now, or has its result. The schedule never ends, so only a result ends this.
    return Result.getOrThrow(yield* Effect.repeat(race, { schedule: afterLostRace, until: Result.isSuccess }))
  }).pipe(
    Trace.spanned(plan.span ?? "QueryStateMachine.run", () => ({
      ...Trace.attributesOf(key),
      ...(claiming.label === undefined ? undefined : { "query_state.label": claiming.label })
    }))
  )
}

export const run = <A, E1, R1, E2, R2, E3, R3, E4, R4>(
  store: Store,
  key: QueryKey,
  options: QueryRun.Options<A, E1, R1, E2, R2, E3, R3, E4, R4>
): Effect.Effect<A, E1 | E2 | E3 | E4 | QueryRun.Error, R1 | R2 | R3 | R4> => {
  const { execute, maxAge, maxAttempts = QueryRun.defaultMaxAttempts, purge, recover, result, timeToLive } = options
  return runBy(store, key, {
    claiming: ClaimedWork.withDefaults(options),
    execute,
    withOutcome: ClaimedWork.withSuccess({ timeToLive }),
    place: identity,
    left: ({ record }) =>
      record.state._tag === "Completed" ? Effect.map(result, Option.map(Exit.succeed)) : Effect.succeedNone,
    answer: () => Effect.succeedNone,
    purge,
    recover,
    maxAttempts,
    maxAge,
    wait: options
  })
}
