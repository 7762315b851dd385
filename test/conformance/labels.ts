/** How queries are called for people, in every `RedisStore`. The test file of each store calls `suite`. */
import { assert, it } from "@effect/vitest"
import { Effect, type Layer, Stream } from "effect"
import { QueryFleet, QueryRecord, RedisStore } from "effect-query-state"
import { driveTo, errorFields, freshKey, life } from "../support/queries.ts"

const invalid: ReadonlyArray<readonly [what: string, label: unknown]> = [
  ["too long", "x".repeat(1025)],
  ["a lone surrogate", "\ud800"],
  ["no text", 7],
  ["null", null]
]

/** Runs the suite against a store. */
export const suite = (name: string, layer: Layer.Layer<RedisStore.RedisStore, unknown>) =>
  it.layer(layer, { excludeTestServices: true, timeout: "30 seconds" })(
    `the labels of a RedisStore (${name})`,
    (it) => {
      it.effect.each(["DailyTotals 2026-11-24", "é😀".repeat(10), "x".repeat(1024)])(
        "a label is kept: %s",
        (label) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const { record } = yield* store.compareAndSet(key, { event: "Queue", label })
            assert.strictEqual(record.label, label)
            assert.deepStrictEqual(yield* store.read(key), record)
          })
      )

      it.effect("no transition takes a label off, and a new one replaces it", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          assert.isFalse("label" in (yield* driveTo(key, "Queued")))
          yield* store.compareAndSet(key, { event: "Execute", label: "first" })
          for (const event of ["Finish", "Reset", "FinishReset", ...life.slice(0, 2)] as const) {
            assert.strictEqual((yield* store.compareAndSet(key, { event })).record.label, "first")
            assert.strictEqual((yield* store.read(key)).label, "first")
          }
          const { version } = yield* store.read(key)
          assert.strictEqual((yield* store.renew(key, version, "1 hour")).label, "first")
          // What is refused changes nothing.
          const refused = yield* store.compareAndSet(key, { event: "Queue", label: "second" })
          assert.deepStrictEqual([refused.changed, refused.record.label], [false, "first"])
          assert.strictEqual(
            (yield* store.compareAndSet(key, { event: "Finish", fence: version, label: "second" })).record.label,
            "second"
          )
        }))

      it.effect("a path that goes round keeps its label", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const { record } = yield* store.compareAndSet(key, { event: life, label: "round" })
          assert.strictEqual(record.label, "round")
        }))

      it.effect("notifications and lists show it", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const fleet = yield* QueryFleet.make
          const key = yield* freshKey
          const heard: Array<QueryRecord.QueryRecord> = []
          yield* store.changes(key, {
            onRecord: (record) => heard.push(record),
            onGap: () => {}
          })
          const { record } = yield* store.compareAndSet(key, { event: "Queue", label: "a label, of two: words" })
          yield* Effect.repeat(Effect.yieldNow, { until: () => heard.length > 0 })
          assert.deepStrictEqual(heard, [record])
          const listed = yield* Stream.runCollect(fleet.list(key.db))
          assert.deepStrictEqual(listed.filter((each) => each.key.query === key.query), [record])
        }))

      it.effect.each(invalid)(
        "a label that is %s is invalid and writes nothing",
        ([, label]) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const error = yield* Effect.flip(store.compareAndSet(key, { event: "Queue", label: label as string }))
            assert.deepStrictEqual(errorFields(error), { _tag: "InvalidInput", operation: "Queue", key })
            assert.deepStrictEqual(yield* store.read(key), QueryRecord.absent(key))
          })
      )
    }
  )
