/** Bulk operations: cancels or resets many queries, or says what would happen. */
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

type Results = ReadonlyArray<Result.Result<CommandResult, RedisStoreError | LeaseLost>>

/** A query to change. With a `fence`, the query is left alone unless its record still has that version. */
export interface Target {
  readonly key: QueryKey.QueryKey
  readonly fence?: number
}

/** An operation on many queries: its first event, its name in messages, and how it is applied. */
export interface Operation {
  readonly event: "Cancel" | "Reset"
  readonly infinitive: string
  readonly participle: string
  readonly apply: (targets: ReadonlyArray<Target>) => Effect.Effect<Results, never, RedisStore>
}

/** Sends the first event. A query that has moved on since it was chosen is left alone: `changed: false`. */
const begin = (command: Command, targets: ReadonlyArray<Target>): Effect.Effect<Results, never, RedisStore> =>
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

export const cancel = (reason: Reason): Operation => ({
  event: "Cancel",
  infinitive: "cancel",
  participle: "Cancelled",
  apply: (targets) => begin({ event: "Cancel", reason }, targets)
})

// If this program is killed between the two events, the lease lapses: the query is ResetFailed, and can be reset again.
const lease = Duration.seconds(30)

export const reset: Operation = {
  event: "Reset",
  infinitive: "reset",
  participle: "Reset",
  apply: Effect.fnUntraced(function*(targets) {
    const store = yield* RedisStore
    const begun = yield* begin({ event: "Reset", holder: "effect-query-state reset", lease }, targets)
    const claimed = begun.filter(Result.isSuccess).filter(({ success }) => success.changed)
    const finished = yield* store.compareAndSetMany(
      claimed.map(({ success: { record } }) => [record.key, { event: "FinishReset", fence: record.version }])
    )
    return [...begun.filter((result) => Result.isFailure(result) || !result.success.changed), ...finished]
  })
}

/** Predicts the results of an operation from the lifecycle and the current records. */
const predict = Effect.fnUntraced(function*(operation: Operation, targets: ReadonlyArray<Target>) {
  const fleet = yield* QueryFleet.make
  const results = yield* fleet.readMany(targets.map(({ key }) => key))
  return results.map(Result.map((record): CommandResult => ({ record, changed: isAccepted(operation, record) })))
})

const isAccepted = ({ event }: Operation, { state }: QueryRecord.QueryRecord): boolean =>
  Transition.next(state._tag, event) !== undefined

/** Why a query was left alone. */
const refusal = (operation: Operation, record: QueryRecord.QueryRecord): string =>
  isAccepted(operation, record)
    ? `${operation.event} is refused, because the query has moved on meanwhile: ${QueryRecord.format(record)}`
    : Transition.refusal(record, operation.event).message

// Few enough to reset all of them long before the lease on the first one lapses.
const batchSize = 100

/**
 * Applies an operation, or only predicts it, and prints the result of each query. Fails with `Exit.failed` if the result
 * of a query is unknown, else with `Exit.refused` if a query was not in a state that allows the operation.
 *
 * It works in batches. An interruption takes effect between two batches, so every change is also printed.
 */
export const run = Effect.fnUntraced(function*(
  operation: Operation,
  targets: ReadonlyArray<Target>,
  isDryRun: boolean
): Effect.fn.Return<void, Exit.Ended, RedisStore> {
  const done = isDryRun ? `Would ${operation.infinitive}` : operation.participle
  let hasFailed = false
  let hasRefused = false
  const print = Effect.fnUntraced(function*(result: Results[number]) {
    if (Result.isFailure(result)) {
      hasFailed = true
      yield* Console.error(View.printable(result.failure.message))
    } else if (result.success.changed) {
      yield* Console.log(`${done} ${View.printable(QueryKey.format(result.success.record.key))}`)
    } else {
      hasRefused = true
      yield* Console.error(View.printable(refusal(operation, result.success.record)))
    }
  })
  yield* Effect.forEach(
    Arr.chunksOf(targets, batchSize),
    (batch) =>
      (isDryRun ? predict(operation, batch) : operation.apply(batch)).pipe(
        Effect.flatMap(Effect.forEach(print, { discard: true })),
        Effect.uninterruptible
      ),
    { discard: true }
  )
  if (hasFailed) return yield* Exit.failed
  if (hasRefused) return yield* Exit.refused
})
