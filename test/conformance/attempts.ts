/**
 * How every `RedisStore` counts the attempts of a query. The test file of each store calls `suite`.
 */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, type Layer } from "effect"
import { type QueryEvent, type QueryKey, QueryState, Reason, RedisStore, type Transition } from "effect-query-state"
import { TestClock } from "effect/testing"
import { freshKey } from "../support/queries.ts"
import type { Time } from "./store.ts"

type Step = readonly [event: Transition.Path, attempts: number, reason?: Reason.Reason]

/** What happens to a query from Known on, and how many attempts it has behind it after each step. */
const lives: ReadonlyArray<readonly [what: string, steps: ReadonlyArray<Step>]> = [
  ["an execution counts, and what leads to it does not", [["Queue", 0], ["Execute", 1]]],
  ["an execution that fails stays counted", [[["Queue", "Execute"], 1], ["Error", 1]]],
  ["an execution that is cancelled stays counted", [[["Queue", "Execute"], 1], ["Cancel", 1, Reason.requested()]]],
  ["an execution that is cancelled without a reason stays counted", [[["Queue", "Execute"], 1], ["Cancel", 1]]],
  ["an execution that is interrupted is taken back", [[["Queue", "Execute"], 1], ["Cancel", 0, Reason.interrupted]]],
  [
    "an interruption takes back one execution, and none while the query is Queued",
    [
      [["Queue", "Execute", "Error", "Reset", "FinishReset", "Queue", "Execute"], 2],
      ["Cancel", 1, Reason.interrupted],
      [["Reset", "FinishReset", "Queue"], 1],
      ["Cancel", 1, Reason.interrupted]
    ]
  ],
  ["a query that fails and gives the reason Interrupted stays counted", [
    [["Queue", "Execute"], 1],
    ["Error", 1, Reason.interrupted]
  ]],
  ["Finish clears the count", [[["Queue", "Execute", "Error", "Reset", "FinishReset", "Queue", "Execute"], 2], [
    "Finish",
    0
  ]]],
  ["an execution after Finish in one path counts as the first", [[["Queue", "Execute"], 1], [
    ["Finish", "Reset", "FinishReset", "Queue", "Execute"],
    1
  ]]],
  ["a query that rests in Known has none", [[["Queue", "Execute"], 1], ["Error", 1], ["Reset", 1], ["FinishReset", 0], [
    ["Queue", "Execute"],
    1
  ]]],
  ["a path that ends in Known clears the count", [[["Queue", "Execute"], 1], ["Error", 1], [
    ["Reset", "FinishReset"],
    0
  ]]],
  ["a path through Known carries the count on", [
    [["Queue", "Execute"], 1],
    ["Error", 1],
    [["Reset", "FinishReset", "Queue", "Execute"], 2],
    ["Cancel", 2],
    ["Reset", 2],
    [["FinishReset", "Queue"], 2],
    ["Execute", 3]
  ]]
]

/** Runs the suite against a store whose leases are driven by `time`. */
export const suite = (name: string, layer: Layer.Layer<RedisStore.RedisStore, unknown>, time: Time) => {
  const lease = Duration.millis(25)

  const outlast = Effect.fnUntraced(function*(key: QueryKey.QueryKey) {
    const store = yield* RedisStore.RedisStore
    const pass = time === "TestClock" ? TestClock.adjust("5 millis") : Effect.sleep("5 millis")
    return yield* Effect.repeat(Effect.andThen(pass, store.read(key)), {
      until: ({ state }) => QueryState.isDeterminate(state)
    })
  })

  return it.layer(layer, { excludeTestServices: time === "real", timeout: "30 seconds" })(
    `the attempts of a RedisStore (${name})`,
    (it) => {
      it.effect.each(lives)("%s", ([, steps]) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          for (const [event, attempts, reason] of steps) {
            const { changed, record } = yield* store.compareAndSet(key, { event, reason })
            assert.deepStrictEqual([changed, record.attempts], [true, attempts], `${event}`)
            assert.deepStrictEqual(yield* store.read(key), record)
          }
        }))

      it.effect("an execution whose lease lapses stays counted, and a take-over counts on", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          let path: Transition.Path = ["Queue", "Execute"]
          for (const attempts of [1, 2, 3]) {
            const { record } = yield* store.compareAndSet(key, { event: path, holder: "worker 1", lease })
            assert.strictEqual(record.attempts, attempts)
            const lapsed = yield* outlast(key)
            assert.deepStrictEqual([lapsed.state._tag, lapsed.attempts], ["Errored", attempts])
            path = ["Reset", "FinishReset", "Queue", "Execute"]
          }
        }))

      it.effect("a lapse that a take-over itself settles stays counted", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          yield* store.compareAndSet(key, { event: ["Queue", "Execute"], lease })
          // Its lease is as long, and it was claimed later.
          const witness = yield* freshKey
          yield* store.compareAndSet(witness, { event: "Queue", lease })
          yield* outlast(witness)
          const { record } = yield* store.compareAndSet(key, { event: ["Reset", "FinishReset", "Queue", "Execute"] })
          assert.strictEqual(record.attempts, 2)
        }))

      it.effect("a reset whose lease lapses counts: its purge may have ended the process", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          yield* store.compareAndSet(key, { event: ["Queue", "Execute", "Error"] })
          for (const attempts of [2, 3]) {
            const { record } = yield* store.compareAndSet(key, { event: "Reset", lease })
            assert.strictEqual(record.attempts, attempts - 1)
            assert.strictEqual((yield* outlast(key)).attempts, attempts)
          }
        }))

      it.effect("a command that is sent again counts once", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const execute = { event: ["Queue", "Execute"], operation: 1, lease: "1 hour" } as const
          const first = yield* store.compareAndSet(key, execute)
          assert.strictEqual(first.record.attempts, 1)
          assert.deepStrictEqual(yield* store.compareAndSet(key, execute), first)
          const cancel = { event: "Cancel", reason: Reason.interrupted, operation: 2 } as const
          const cancelled = yield* store.compareAndSet(key, cancel)
          assert.strictEqual(cancelled.record.attempts, 0)
          assert.deepStrictEqual(yield* store.compareAndSet(key, cancel), cancelled)
        }))

      it.effect("renewals, refused commands and lost claims leave the count as it is", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const { record: { version } } = yield* store.compareAndSet(key, {
            event: ["Queue", "Execute"],
            lease: "1 hour"
          })
          const renewed = yield* store.renew(key, version, "2 hours")
          assert.strictEqual(renewed.attempts, 1)
          for (const event of ["Execute", "Queue", "Finish"] satisfies ReadonlyArray<QueryEvent.QueryEvent>) {
            assert.deepStrictEqual(yield* store.compareAndSet(key, { event }), { record: renewed, changed: false })
          }
          yield* Effect.flip(store.compareAndSet(key, { event: "Finish", fence: version - 1 }))
          assert.deepStrictEqual(yield* store.read(key), renewed)
        }))

      it.effect("the record of a notification has the count", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const heard = yield* Effect.scoped(Effect.gen(function*() {
            const attempts: Array<number> = []
            yield* store.changes(key, { onRecord: (record) => attempts.push(record.attempts), onGap: () => {} })
            yield* store.compareAndSet(key, { event: ["Queue", "Execute"] })
            yield* Effect.repeat(Effect.yieldNow, { until: () => attempts.length > 0 })
            return attempts
          }))
          assert.deepStrictEqual(heard, [1])
        }))
    }
  )
}
