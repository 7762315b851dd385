/** Running a query once, and joining a run that is under way. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as QueryError from "../../domain/QueryError.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import type * as QueryState from "../../domain/QueryState.ts"
import type * as QueryRun from "../QueryRun.ts"
import type { RedisStore } from "../RedisStore.ts"
import * as ClaimedWork from "./claimedWork.ts"
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

export const run = <A, E1, R1, E2, R2, E3, R3>(
  store: Store,
  key: QueryKey,
  options: QueryRun.Options<A, E1, R1, E2, R2, E3, R3>
): Effect.Effect<A, E1 | E2 | E3 | QueryRun.Error, R1 | R2 | R3> => {
  const { execute, onCompleted, purge, recover = isUndecided } = options
  const claiming = ClaimedWork.withDefaults(options)

  const runFirst = ClaimedWork.claimed(store, key, {
    kind: ClaimedWork.execution,
    claim: Effect.gen(function*() {
      const queued = yield* store.compareAndSet(key, { event: "Queue", ...claiming })
      if (!queued.changed) return queued
      // Where the claim on the queue has lapsed, or a process without fences took the query, that run is joined. A
      // cancellation is an error for the caller.
      return yield* store.compareAndSet(key, { event: "Execute", fence: queued.record.version, ...claiming }).pipe(
        Effect.catchTag("LeaseLost", (error) =>
          error.record.state._tag === "Cancelled"
            ? Effect.fail(error)
            : Effect.succeed({ record: error.record, changed: false }))
      )
    }),
    lease: claiming.lease,
    refused: lostRace<A>,
    work: (claim) => Effect.map(execute(claim), won)
  })

  // Resets only the version that was read: another process may have run the query again, and have its result by now.
  const startOver = (fence: number) =>
    ClaimedWork.claimed(store, key, {
      kind: ClaimedWork.reset,
      claim: store.compareAndSet(key, { event: "Reset", fence, ...claiming }).pipe(
        Effect.catchTag("LeaseLost", ({ record }) => Effect.succeed({ record, changed: false }))
      ),
      lease: claiming.lease,
      refused: lostRace<unknown>,
      work: (claim) => Effect.map(purge?.(claim) ?? Effect.void, won)
    })

  const attempt = Effect.fnUntraced(function*(from: QueryRecord) {
    const { state, version } = yield* Wait.waitFrom(store, from, options)
    switch (state._tag) {
      case "Completed":
        return won(yield* onCompleted)
      case "Known":
        return yield* runFirst
      default: {
        if (!recover(state)) return yield* failure(key, state)
        const purged = yield* startOver(version)
        return Result.isSuccess(purged) ? yield* runFirst : Result.fail(purged.failure)
      }
    }
  })

  return Effect.gen(function*() {
    let latest = yield* store.read(key)
    const race = Effect.map(
      Effect.suspend(() => attempt(latest)),
      Result.mapError((record) => latest = record)
    )
    const first = yield* race
    if (Result.isSuccess(first)) return first.success
    // The winner holds the query by now, or has its result. The schedule never ends, so only a result ends this.
    return Result.getOrThrow(yield* Effect.repeat(race, { schedule: afterLostRace, until: Result.isSuccess }))
  }).pipe(Trace.spanned("QueryStateMachine.run", () => Trace.attributesOf(key)))
}
