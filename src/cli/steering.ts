/** Cancelling and resetting queries that somebody else runs, and telling beforehand what would come of it. */
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { LeaseLost } from "../domain/QueryError.ts"
import * as QueryKey from "../domain/QueryKey.ts"
import type { Reason } from "../domain/Reason.ts"
import * as Transition from "../domain/Transition.ts"
import * as QueryFleet from "../services/QueryFleet.ts"
import { type Answer, RedisStore } from "../services/RedisStore.ts"
import type { RedisStoreError } from "../services/RedisStoreError.ts"
import * as Exit from "./exit.ts"
import * as View from "./view.ts"

type Answers = ReadonlyArray<Result.Result<Answer, RedisStoreError | LeaseLost>>

/** Something that an operator does to queries: which event it begins with, what it is called, and how it is done. */
export interface Step {
  readonly event: "Cancel" | "Reset"
  readonly infinitive: string
  readonly participle: string
  readonly take: (keys: ReadonlyArray<QueryKey.QueryKey>) => Effect.Effect<Answers, never, RedisStore>
}

export const cancel = (reason: Reason): Step => ({
  event: "Cancel",
  infinitive: "cancel",
  participle: "Cancelled",
  take: (keys) => Effect.flatMap(QueryFleet.make, (fleet) => fleet.triggerMany("Cancel", keys, { reason }))
})

// Should this program be killed between the two steps, the query is ResetFailed when this is over, and can be reset again.
const lease = Duration.seconds(30)

export const reset: Step = {
  event: "Reset",
  infinitive: "reset",
  participle: "Reset",
  take: Effect.fnUntraced(function*(keys) {
    const store = yield* RedisStore
    const fleet = yield* QueryFleet.make
    const begun = yield* fleet.triggerMany("Reset", keys, { holder: "effect-query-state reset", lease })
    const claimed = begun.filter(Result.isSuccess).filter(({ success }) => success.changed)
    const finished = yield* store.compareAndSetMany(
      claimed.map(({ success: { record } }) => [record.key, { event: "FinishReset", fence: record.version }])
    )
    return [...begun.filter((result) => Result.isFailure(result) || !result.success.changed), ...finished]
  }, Effect.uninterruptible)
}

/** What would come of a step, by the lifecycle and by how things stand. */
const foresee = Effect.fnUntraced(function*(step: Step, keys: ReadonlyArray<QueryKey.QueryKey>) {
  const fleet = yield* QueryFleet.make
  const results = yield* fleet.readMany(keys)
  return results.map(Result.map((record): Answer => ({
    record,
    changed: Transition.next(record.state._tag, step.event) !== undefined
  })))
})

/**
 * Takes a step, or only foresees it, and tells what became of each query. It ends with `Exit.failed` if that is not known
 * of one, and else with `Exit.refused` if one was not in a state for it.
 */
export const steer = Effect.fnUntraced(function*(
  step: Step,
  keys: ReadonlyArray<QueryKey.QueryKey>,
  isDry: boolean
): Effect.fn.Return<void, Exit.Ended, RedisStore> {
  const answers: Answers = yield* isDry ? foresee(step, keys) : step.take(keys)
  const what = isDry ? `Would ${step.infinitive}` : step.participle
  for (const answer of answers) {
    if (Result.isFailure(answer)) {
      yield* Console.error(View.printable(answer.failure.message))
    } else if (answer.success.changed) {
      yield* Console.log(`${what} ${View.printable(QueryKey.format(answer.success.record.key))}`)
    } else {
      yield* Console.error(View.printable(Transition.refusal(answer.success.record, step.event).message))
    }
  }
  if (answers.some(Result.isFailure)) return yield* Exit.failed
  if (answers.some((answer) => Result.isSuccess(answer) && !answer.success.changed)) return yield* Exit.refused
})
