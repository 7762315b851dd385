/** What the stores remember beside the state of a query. */
import { assert, it } from "@effect/vitest"
import { Effect, type Layer, Redacted } from "effect"
import {
  RedisStore,
  RedisStoreError,
  RedisStoreFlowMachine,
  RedisStoreLive,
  RedisStoreMemory
} from "effect-query-state"
import { TestClock } from "effect/testing"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { length, suite } from "../conformance/boundedMemory.ts"
import { driveTo, freshKey } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"

const prefix = `history-${randomUUID()}`
const url = Redacted.make(inject("redisUrl"))

suite("memory", RedisStoreMemory.layerWith({ history: { length } }), "TestClock")
suite("Redis", RedisStoreLive.layer({ url, prefix, history: { length } }), "real")
suite(
  "FlowMachine's Redis",
  RedisStoreFlowMachine.layer({ url, prefix, dialect: "reset-failed", history: { length } }),
  "real"
)

const off: ReadonlyArray<readonly [name: string, layer: Layer.Layer<RedisStore.RedisStore, unknown>]> = [
  ["memory", RedisStoreMemory.layer],
  ["Redis", RedisStoreLive.layer({ url, prefix })],
  ["FlowMachine's Redis", RedisStoreFlowMachine.layer({ url, prefix, dialect: "reset-failed" })]
]

for (const [name, layer] of off) {
  it.live(`${name}: there is no history unless it is enabled`, () =>
    Effect.gen(function*() {
      const key = yield* freshKey
      yield* driveTo(key, "Completed")
      assert.deepStrictEqual(yield* RedisStore.RedisStore.use((store) => store.history(key)), [])
    }).pipe(Effect.provide(layer)))
}

it.effect("memory: a history expires after the last transition", () =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const key = yield* freshKey
    yield* store.compareAndSet(key, { event: "Queue" })
    yield* TestClock.adjust("59 minutes")
    yield* store.compareAndSet(key, { event: "Execute" })
    yield* TestClock.adjust("59 minutes")
    assert.lengthOf(yield* store.history(key), 2)
    yield* TestClock.adjust("1 minute")
    assert.deepStrictEqual(yield* store.history(key), [])
  }).pipe(Effect.provide(RedisStoreMemory.layerWith({ history: { length, retention: "1 hour" } }))))

it.live("Redis: a history expires after the last transition, even when the record is gone", () =>
  Effect.gen(function*() {
    const key = yield* freshKey
    yield* driveTo(key, "Completed")
    const admin = yield* RedisAdmin.connect(inject("redisUrl"))
    const left = yield* Effect.promise(() => admin.pttl(`${prefix}:{${key.db}:${key.query}}:history`))
    assert.isTrue(left > 59 * 60_000 && left <= 60 * 60_000, `${left} ms are left`)
  }).pipe(
    Effect.provide(RedisStoreLive.layer({ url, prefix, history: { length, retention: "1 hour" } })),
    Effect.scoped
  ))

it.live("Redis: a key of another type in place of the history does not fail a transition", () =>
  Effect.gen(function*() {
    const key = yield* freshKey
    const admin = yield* RedisAdmin.connect(inject("redisUrl"))
    const historyKey = `${prefix}:{${key.db}:${key.query}}:history`
    yield* Effect.promise(() => admin.set(historyKey, "something else"))
    const { state } = yield* driveTo(key, "Completed")
    assert.strictEqual(state._tag, "Completed")
    const error = yield* Effect.flip(RedisStore.RedisStore.use((store) => store.history(key)))
    assert.deepStrictEqual(error.reason._tag === "WrongType" && error.reason.redisKey, historyKey)
  }).pipe(Effect.provide(RedisStoreLive.layer({ url, prefix, history: { length } })), Effect.scoped))

it.effect.each<RedisStore.HistoryOptions>([
  { length: 0 },
  { length: 1.5 },
  { length: 10_001 },
  { length: Number.NaN },
  { length, retention: 0 },
  { length, retention: "Infinity" }
])("a history with %o is invalid in every layer", (history) =>
  Effect.gen(function*() {
    for (const layer of [RedisStoreMemory.layerWith({ history }), RedisStoreLive.layer({ url, history })]) {
      const error = yield* Effect.flip(Effect.provide(RedisStore.RedisStore, layer))
      assert.strictEqual(error.reason._tag, "InvalidInput")
      assert.instanceOf(error, RedisStoreError.RedisStoreError)
    }
  }))
