/** Cancelling and resetting queries that somebody else runs, and telling beforehand what would come of it. */
import * as Arr from "effect/Array"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { LeaseLost } from "../domain/QueryError.ts"
import * as QueryKey from "../domain/QueryKey.ts"
import * as QueryRecord from "../domain/QueryRecord.ts"
import type { Reason } from "../domain/Reason.ts"
import * as Transition from "../domain/Transition.ts"
import * as QueryFleet from "../services/QueryFleet.ts"
import { type Command, type CommandResult, RedisStore } from "../services/RedisStore.ts"
import type { RedisStoreError } from "../services/RedisStoreError.ts"
import * as Exit from "./exit.ts"
import * as View from "./view.ts"

type Answers = ReadonlyArray<Result.Result<CommandResult, RedisStoreError | LeaseLost>>

/** A query that something is to be done to, if it still has the version that it was chosen for, where that matters. */
export interface Target {
  readonly key: QueryKey.QueryKey
  readonly fence?: number
}

/** Something that an operator does to queries: which event it begins with, what it is called, and how it is done. */
export interface Step {
  readonly event: "Cancel" | "Reset"
  readonly infinitive: string
  readonly participle: string
  readonly take: (targets: ReadonlyArray<Target>) => Effect.Effect<Answers, never, RedisStore>
}

/** Begins a step. A query that has moved on since it was chosen is left as it is. */
const begin = (command: Command, targets: ReadonlyArray<Target>): Effect.Effect<Answers, never, RedisStore> =>
  RedisStore.use((store) => store.compareAndSetMany(targets.map(({ fence, key }) => [key, { ...command, fence }])))
    .pipe(
      Effect.map((results) =>
        results.map((result) =>
          Result.isFailure(result) && result.failure._tag === "LeaseLost"
            ? Result.succeed({ record: result.failure.record, changed: false })
            : result
        )
      )
    )

export const cancel = (reason: Reason): Step => ({
  event: "Cancel",
  infinitive: "cancel",
  participle: "Cancelled",
  take: (targets) => begin({ event: "Cancel", reason }, targets)
})

// Should this program be killed between the two steps, the query is ResetFailed when this is over, and can be reset again.
const lease = Duration.seconds(30)

export const reset: Step = {
  event: "Reset",
  infinitive: "reset",
  participle: "Reset",
  take: Effect.fnUntraced(function*(targets) {
    const store = yield* RedisStore
    const begun = yield* begin({ event: "Reset", holder: "effect-query-state reset", lease }, targets)
    const claimed = begun.filter(Result.isSuccess).filter(({ success }) => success.changed)
    const finished = yield* store.compareAndSetMany(
      claimed.map(({ success: { record } }) => [record.key, { event: "FinishReset", fence: record.version }])
    )
    return [...begun.filter((result) => Result.isFailure(result) || !result.success.changed), ...finished]
  })
}

/** What would come of a step, by the lifecycle and by how things stand. */
const foresee = Effect.fnUntraced(function*(step: Step, targets: ReadonlyArray<Target>) {
  const fleet = yield* QueryFleet.make
  const results = yield* fleet.readMany(targets.map(({ key }) => key))
  return results.map(Result.map((record): CommandResult => ({ record, changed: isAccepted(step, record) })))
})

const isAccepted = ({ event }: Step, { state }: QueryRecord.QueryRecord): boolean =>
  Transition.next(state._tag, event) !== undefined

/** Why a query was left as it was. */
const refusal = (step: Step, record: QueryRecord.QueryRecord): string =>
  isAccepted(step, record)
    ? `${step.event} is refused, since it has moved on meanwhile: ${QueryRecord.format(record)}`
    : Transition.refusal(record, step.event).message

// So few that they are reset long before the lease on the first of them is over.
const atOnce = 100

/**
 * Takes a step, or only foresees it, and tells what became of each query. It ends with `Exit.failed` if that is not known
 * of one, and else with `Exit.refused` if one was not in a state for it.
 *
 * It takes some at a time, and an interruption ends it between those: of all that anything was done to, it has been told.
 */
export const steer = Effect.fnUntraced(function*(
  step: Step,
  targets: ReadonlyArray<Target>,
  isDry: boolean
): Effect.fn.Return<void, Exit.Ended, RedisStore> {
  const what = isDry ? `Would ${step.infinitive}` : step.participle
  let hasFailed = false
  let hasRefused = false
  const tell = Effect.fnUntraced(function*(answer: Answers[number]) {
    if (Result.isFailure(answer)) {
      hasFailed = true
      yield* Console.error(View.printable(answer.failure.message))
    } else if (answer.success.changed) {
      yield* Console.log(`${what} ${View.printable(QueryKey.format(answer.success.record.key))}`)
    } else {
      hasRefused = true
      yield* Console.error(View.printable(refusal(step, answer.success.record)))
    }
  })
  yield* Effect.forEach(
    Arr.chunksOf(targets, atOnce),
    (some) =>
      (isDry ? foresee(step, some) : step.take(some)).pipe(
        Effect.flatMap(Effect.forEach(tell, { discard: true })),
        Effect.uninterruptible
      ),
    { discard: true }
  )
  if (hasFailed) return yield* Exit.failed
  if (hasRefused) return yield* Exit.refused
})
