/** Running a query once, by whoever comes first, and joining that run. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as QueryError from "../../domain/QueryError.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import type { DeterminateRecord, FailedState, HeldClaim, RunError } from "../QueryStateMachine.ts"
import type { RedisStore } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"
import { execution, owned, reset } from "./owned.ts"
import * as Trace from "./trace.ts"

type Store = RedisStore["Service"]

// Whoever loses one race for a query after the other tries again soon, and not at once.
const afterLostRace = Schedule.min([Schedule.exponential("10 millis"), Schedule.spaced("1 second")]).pipe(
  Schedule.jittered
)

const failure = (key: QueryKey, state: FailedState) => {
  switch (state._tag) {
    case "Errored":
      return new QueryError.QueryErrored({ key, reason: state.reason })
    case "Cancelled":
      return new QueryError.QueryCancelled({ key, reason: state.reason })
    case "ResetFailed":
      return new QueryError.QueryResetFailed({ key, reason: state.reason })
  }
}

/** What comes of a race for a query: a result, or how the query stands since somebody else was faster. */
type Race<A> = Result.Result<A, QueryRecord>

const won = <A>(value: A): Race<A> => Result.succeed(value)
const lostRace = <A>(record: QueryRecord): Effect.Effect<Race<A>> => Effect.succeed(Result.fail(record))

export const run = <A, E1, R1, E2, R2, E3, R3>(store: Store, key: QueryKey, options: {
  readonly waitFrom: (
    record: QueryRecord
  ) => Effect.Effect<DeterminateRecord, QueryError.StillPending | RedisStoreError>
  readonly execute: (claim: HeldClaim) => Effect.Effect<A, E1, R1>
  readonly onCompleted: Effect.Effect<A, E2, R2>
  readonly purge: (claim: HeldClaim) => Effect.Effect<unknown, E3, R3>
  readonly recover: (state: FailedState) => boolean
  readonly holder: string
  readonly lease: Duration.Input
}): Effect.Effect<A, E1 | E2 | E3 | RunError, R1 | R2 | R3> => {
  const { holder, lease } = options

  const runFirst = owned(store, key, {
    claim: Effect.gen(function*() {
      const queued = yield* store.compareAndSet(key, { event: "Queue", holder, lease })
      if (!queued.changed) return queued
      // Where others who ask for no fence may execute what was queued here, or came when that claim was over: theirs is
      // the run, and it is joined. That somebody called it off is for the caller to hear.
      return yield* store.compareAndSet(key, { event: "Execute", fence: queued.record.version, holder, lease }).pipe(
        Effect.catchTag("LeaseLost", (error) =>
          error.record.state._tag === "Cancelled"
            ? Effect.fail(error)
            : Effect.succeed({ record: error.record, changed: false }))
      )
    }),
    lease,
    events: execution,
    refused: lostRace<A>,
    work: (claim) => Effect.map(options.execute(claim), won)
  })

  // Only what was looked at is started over: somebody else may have done so meanwhile, and have a result by now.
  const startOver = (fence: number) =>
    owned(store, key, {
      claim: store.compareAndSet(key, { event: "Reset", fence, holder, lease }).pipe(
        Effect.catchTag("LeaseLost", ({ record }) => Effect.succeed({ record, changed: false }))
      ),
      lease,
      events: reset,
      refused: lostRace<unknown>,
      work: (claim) => Effect.map(options.purge(claim), won)
    })

  const attempt = Effect.fnUntraced(function*(from: QueryRecord) {
    const { state, version } = yield* options.waitFrom(from)
    switch (state._tag) {
      case "Completed":
        return won(yield* options.onCompleted)
      case "Known":
        return yield* runFirst
      default: {
        if (!options.recover(state)) return yield* failure(key, state)
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
    // Who was faster holds the query by now, or has its result. The schedule goes on for ever, so that this ends with a
    // result or not at all.
    return Result.getOrThrow(yield* Effect.repeat(race, { schedule: afterLostRace, until: Result.isSuccess }))
  }).pipe(Trace.spanned("QueryStateMachine.run", () => Trace.attributesOf(key)))
}
