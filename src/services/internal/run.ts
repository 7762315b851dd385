/** Running a query once, and joining a run that is under way. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type { LeaseLost } from "../../domain/QueryError.ts"
import * as QueryError from "../../domain/QueryError.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import * as QueryRecord from "../../domain/QueryRecord.ts"
import type * as QueryState from "../../domain/QueryState.ts"
import * as QueryRun from "../QueryRun.ts"
import type { Command, CommandResult, RedisStore } from "../RedisStore.ts"
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

const failure = (key: QueryKey, state: QueryState.Failed, attempts: number) => {
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

/** Result of a race for a query: the result of the work, or the record where somebody else was faster. */
type Race<A> = Result.Result<A, QueryRecord.QueryRecord>

const won = <A>(value: A): Race<A> => Result.succeed(value)
const lostRace = <A>(record: QueryRecord.QueryRecord): Effect.Effect<Race<A>> => Effect.succeed(Result.fail(record))

/** A claim that was lost, by a process that was frozen or cut off, is a race that was lost. A cancel is an error. */
const lostClaim = <A>(lost: Lost): Effect.Effect<Race<A>, Lost> =>
  lost._tag === "LeaseLost" ? lostRace(lost.record) : Effect.fail(lost)

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
const isTooOld = (
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

export const run = <A, E1, R1, E2, R2, E3, R3, E4, R4>(
  store: Store,
  key: QueryKey,
  options: QueryRun.Options<A, E1, R1, E2, R2, E3, R3, E4, R4>
): Effect.Effect<A, E1 | E2 | E3 | E4 | QueryRun.Error, R1 | R2 | R3 | R4> => {
  const { execute, maxAge, maxAttempts = QueryRun.defaultMaxAttempts, purge, recover, result, timeToLive } = options
  const claiming = ClaimedWork.withDefaults(options)
  const working = {
    refused: lostRace<A>,
    lost: lostClaim<A>,
    work: (claim: Parameters<typeof execute>[0]) => Effect.map(execute(claim), won),
    onSuccess: { timeToLive }
  }

  const executeAfter = (command: Command) =>
    ClaimedWork.claimed(store, {
      ...working,
      kind: ClaimedWork.execution,
      claim: coalesced(store, key, claimOrRead(store, key, { ...command, ...claiming })),
      lease: claiming.lease
    })

  const begin = executeAfter({ event: ["Queue", "Execute"] })

  // Takes over only the version that was seen: another process may have run the query again, and have its result by now.
  const takeOver = (ifVersion: number) =>
    purge === undefined
      ? executeAfter({ event: ["Reset", "FinishReset", "Queue", "Execute"], ifVersion })
      : ClaimedWork.purgedAndExecuted(store, {
        ...working,
        claim: coalesced(store, key, store.compareAndSet(key, { event: "Reset", ifVersion, ...claiming })),
        claiming,
        purge
      })

  // Whoever was interrupted was allowed to run the query, and passes that on to those who waited.
  const mayGoOn = ({ reason }: QueryState.Failed, attempts: number, isFound: boolean): boolean =>
    isHandedOver(reason) && (attempts < maxAttempts || (!isFound && reason._tag === "Interrupted"))

  const isRecovered = (found: QueryRun.Found): Effect.Effect<boolean, E4, R4> => {
    const answer = recover?.(found) ?? false
    return Effect.isEffect(answer) ? answer : Effect.succeed(answer)
  }

  /** Goes on from a query that is not pending. `isFound` where this caller did not wait for what it has become. */
  const goOn = Effect.fnUntraced(
    function*(record: QueryRecord.Determinate, isFound: boolean) {
      const { attempts, state, version } = record
      switch (state._tag) {
        case "Known":
          return yield* begin
        case "Completed": {
          if (isFound && (yield* isTooOld(store, record, maxAge))) return yield* takeOver(version)
          const left = yield* result
          return Option.isSome(left) ? won(left.value) : yield* takeOver(version)
        }
        default:
          return mayGoOn(state, attempts, isFound) || (isFound && (yield* isRecovered({ state, attempts })))
            ? yield* takeOver(version)
            : yield* failure(key, state, attempts)
      }
    }
  )

  return Effect.gen(function*() {
    const first = yield* begin
    if (Result.isSuccess(first)) return first.success
    let latest = first.failure
    let isFound = QueryRecord.isDeterminate(latest)
    const race = Effect.gen(function*() {
      const record = yield* Cycles.waitFrom(store, latest, options)
      const next = yield* goOn(record, isFound)
      return Result.mapError(next, (answer) => {
        // Another claim of this process can answer ours, and leave what was found as it was.
        if (answer.version !== record.version) isFound = false
        return latest = answer
      })
    })
    // The winner holds the query by now, or has its result. The schedule never ends, so only a result ends this.
    return Result.getOrThrow(yield* Effect.repeat(race, { schedule: afterLostRace, until: Result.isSuccess }))
  }).pipe(Trace.spanned("QueryStateMachine.run", () => Trace.attributesOf(key)))
}
