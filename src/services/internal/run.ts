/** Running a query once, by whoever comes first, and joining that run. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as QueryError from "../../domain/QueryError.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { DeterminateRecord, FailedState, HeldClaim, RunError } from "../QueryStateMachine.ts"
import type { RedisStore } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"
import { execution, owned, reset } from "./owned.ts"
import * as Trace from "./trace.ts"

type Store = RedisStore["Service"]

// Whoever lost a race for a query looks again soon, and not at once.
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

export const run = <A, E1, R1, E2, R2, E3, R3>(store: Store, key: QueryKey, options: {
  readonly wait: Effect.Effect<DeterminateRecord, QueryError.StillPending | RedisStoreError>
  readonly execute: (claim: HeldClaim) => Effect.Effect<A, E1, R1>
  readonly onCompleted: Effect.Effect<A, E2, R2>
  readonly purge: (claim: HeldClaim) => Effect.Effect<unknown, E3, R3>
  readonly recover: (state: FailedState) => boolean
  readonly holder: string
  readonly lease: Duration.Input
}): Effect.Effect<A, E1 | E2 | E3 | RunError, R1 | R2 | R3> => {
  const { holder, lease } = options
  const lostRace = () => Effect.succeedNone

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
    refused: lostRace,
    work: (claim) => Effect.asSome(options.execute(claim))
  })

  // Only what was looked at is started over: somebody else may have done so meanwhile, and have a result by now.
  const startOver = (fence: number) =>
    owned(store, key, {
      claim: store.compareAndSet(key, { event: "Reset", fence, holder, lease }).pipe(
        Effect.catchTag("LeaseLost", ({ record }) => Effect.succeed({ record, changed: false }))
      ),
      lease,
      events: reset,
      refused: lostRace,
      work: (claim) => Effect.asSome(options.purge(claim))
    })

  const attempt = Effect.gen(function*() {
    const { state, version } = yield* options.wait
    switch (state._tag) {
      case "Completed":
        return yield* Effect.asSome(options.onCompleted)
      case "Known":
        return yield* runFirst
      default:
        if (!options.recover(state)) return yield* failure(key, state)
        return Option.isSome(yield* startOver(version)) ? yield* runFirst : Option.none()
    }
  })
  // The schedule goes on for ever, so that this ends with a result or not at all.
  return Effect.repeat(attempt, { schedule: afterLostRace, until: Option.isSome }).pipe(
    Effect.map(Option.getOrThrow),
    Trace.spanned("QueryStateMachine.run", () => Trace.attributesOf(key))
  )
}
