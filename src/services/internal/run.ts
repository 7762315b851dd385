/** Running a query once, and joining a run that is under way. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type { LeaseLost } from "../../domain/QueryError.ts"
import * as QueryError from "../../domain/QueryError.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import type * as QueryState from "../../domain/QueryState.ts"
import type * as QueryRun from "../QueryRun.ts"
import type { Command, CommandResult, RedisStore } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"
import * as ClaimedWork from "./claimedWork.ts"
import { coalesced } from "./coalescedClaims.ts"
import * as Trace from "./trace.ts"
import * as Wait from "./wait.ts"

type Store = RedisStore["Service"]

// A caller that loses one race after the other tries again soon, but not at once.
const afterLostRace = Schedule.min([Schedule.exponential("10 millis"), Schedule.spaced("1 second")]).pipe(
  Schedule.jittered
)

const isUndecided = ({ reason }: QueryState.Failed): boolean => reason._tag === "LeaseExpired"

const failure = (key: QueryKey, state: QueryState.Failed) => {
  switch (state._tag) {
    case "Errored":
      return new QueryError.QueryErrored({ key, reason: state.reason })
    case "Cancelled":
      return new QueryError.QueryCancelled({ key, reason: state.reason })
    case "ResetFailed":
      return new QueryError.QueryResetFailed({ key, reason: state.reason })
  }
}

/** Result of a race for a query: the result of the work, or the record where somebody else was faster. */
type Race<A> = Result.Result<A, QueryRecord>

const won = <A>(value: A): Race<A> => Result.succeed(value)
const lostRace = <A>(record: QueryRecord): Effect.Effect<Race<A>> => Effect.succeed(Result.fail(record))

/** Claims a query. Where Redis has no memory for a claim, the record is read: a run that is under way can be joined. */
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
        (record) => record.state._tag === "Known" ? Effect.fail(error) : Effect.succeed({ record, changed: false })
      )
  )

export const run = <A, E1, R1, E2, R2, E3, R3>(
  store: Store,
  key: QueryKey,
  options: QueryRun.Options<A, E1, R1, E2, R2, E3, R3>
): Effect.Effect<A, E1 | E2 | E3 | QueryRun.Error, R1 | R2 | R3> => {
  const { execute, onCompleted, purge, recover = isUndecided } = options
  const claiming = ClaimedWork.withDefaults(options)

  const executeAfter = (command: Command) =>
    ClaimedWork.claimed(store, {
      kind: ClaimedWork.execution,
      claim: coalesced(store, key, claimOrRead(store, key, { ...command, ...claiming })),
      lease: claiming.lease,
      refused: lostRace<A>,
      work: (claim) => Effect.map(execute(claim), won)
    })

  const begin = executeAfter({ event: ["Queue", "Execute"] })

  // Takes over only the version that was seen: another process may have run the query again, and have its result by now.
  const takeOver = (ifVersion: number) =>
    purge === undefined
      ? executeAfter({ event: ["Reset", "FinishReset", "Queue", "Execute"], ifVersion })
      : ClaimedWork.purgedAndExecuted(store, {
        claim: coalesced(store, key, store.compareAndSet(key, { event: "Reset", ifVersion, ...claiming })),
        claiming,
        refused: lostRace<A>,
        purge,
        work: (claim) => Effect.map(execute(claim), won)
      })

  const join = Effect.fnUntraced(function*(from: QueryRecord) {
    const { state, version } = yield* Wait.waitFrom(store, from, options)
    if (state._tag === "Completed") return won(yield* onCompleted)
    if (state._tag === "Known") return yield* begin
    return recover(state) ? yield* takeOver(version) : yield* failure(key, state)
  })

  return Effect.gen(function*() {
    const first = yield* begin
    if (Result.isSuccess(first)) return first.success
    // The winner holds the query by now, or has its result. The schedule never ends, so only a result ends this.
    let latest = first.failure
    const race = Effect.map(Effect.suspend(() => join(latest)), Result.mapError((record) => latest = record))
    return Result.getOrThrow(yield* Effect.repeat(race, { schedule: afterLostRace, until: Result.isSuccess }))
  }).pipe(Trace.spanned("QueryStateMachine.run", () => Trace.attributesOf(key)))
}
