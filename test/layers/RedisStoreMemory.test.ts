import { assert, it } from "@effect/vitest"
import { DateTime, Duration, Effect } from "effect"
import { QueryKey, QueryRecord, QueryState, Reason, RedisStore, RedisStoreMemory } from "effect-query-state"
import { TestClock } from "effect/testing"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Attempts from "../conformance/attempts.ts"
import * as Labels from "../conformance/labels.ts"
import * as Results from "../conformance/results.ts"
import { suite } from "../conformance/store.ts"
import * as TimeToLive from "../conformance/timeToLive.ts"
import { driveTo, freshKey } from "../support/queries.ts"

setFlagsFromString("--expose-gc")
const collectGarbage: () => void = runInNewContext("gc")

suite("memory", RedisStoreMemory.layer, { time: "TestClock" })
Attempts.suite("memory", RedisStoreMemory.layer, "TestClock")
Labels.suite("memory", RedisStoreMemory.layer)
Results.suite("memory", RedisStoreMemory.layer, "TestClock")
TimeToLive.suite("memory", RedisStoreMemory.layerWith(TimeToLive.options), "TestClock")

it.effect("a lease lapses at its end, not a millisecond before", () =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const key = yield* freshKey
    yield* TestClock.setTime(1_000)
    const claim = { fence: 1_000_000, holder: "worker 1", expiresAt: DateTime.makeUnsafe(11_000) }
    const queued = {
      key,
      state: QueryState.make("Queued", { claim }),
      version: 1_000_000,
      attempts: 0,
      changedAt: DateTime.makeUnsafe(1_000)
    }
    const command = { event: "Queue", holder: "worker 1", lease: "10 seconds" } as const
    assert.deepStrictEqual(yield* store.compareAndSet(key, command), { record: queued, changed: true })

    yield* TestClock.adjust("9999 millis")
    assert.deepStrictEqual(yield* store.read(key), queued)

    yield* TestClock.adjust("1 millis")
    assert.deepStrictEqual(yield* store.read(key), {
      key,
      state: QueryState.make("Cancelled", { reason: Reason.leaseExpired("worker 1") }),
      version: 11_000_000,
      attempts: 0,
      changedAt: DateTime.makeUnsafe(11_000)
    })
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("a claim without a lease never lapses", () =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const key = yield* freshKey
    const record = yield* driveTo(key, "Executing", { holder: "worker 1" })
    yield* TestClock.adjust("3650 days")
    assert.deepStrictEqual(yield* store.read(key), record)
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("a query that was reset is forgotten after a while, and later versions are higher", () =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const key = yield* freshKey
    yield* driveTo(key, "Resetting")
    const { record } = yield* store.compareAndSet(key, { event: "FinishReset" })
    yield* TestClock.adjust(Duration.subtract(RedisStore.knownTimeToLive, Duration.millis(1)))
    assert.deepStrictEqual(yield* store.read(key), record)
    yield* TestClock.adjust("1 millis")
    assert.deepStrictEqual(yield* store.read(key), QueryRecord.absent(key))
    assert.isAbove((yield* store.compareAndSet(key, { event: "Queue" })).record.version, record.version)
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("a query that is queued again is not forgotten", () =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const key = yield* freshKey
    yield* driveTo(key, "Resetting")
    yield* store.compareAndSet(key, { event: "FinishReset" })
    const { record } = yield* store.compareAndSet(key, { event: "Queue" })
    yield* TestClock.adjust(Duration.times(RedisStore.knownTimeToLive, 2))
    assert.deepStrictEqual(yield* store.read(key), record)
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("a record expires at the end of its time to live, not a millisecond before", () =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const key = yield* freshKey
    yield* TestClock.setTime(1_000)
    const record = yield* driveTo(key, "Completed", { timeToLive: "10 seconds" })
    assert.deepStrictEqual(record.keptUntil, DateTime.makeUnsafe(11_000))
    yield* TestClock.adjust("9999 millis")
    assert.deepStrictEqual(yield* store.read(key), record)
    yield* TestClock.adjust("1 millis")
    assert.deepStrictEqual(yield* store.read(key), QueryRecord.absent(key))
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("queries that have expired are forgotten while others come, also if nobody looks at them", () =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    // A record holds its key: a key that can be collected belongs to a record that was forgotten.
    const keys: Array<WeakRef<QueryKey.QueryKey>> = []
    for (let count = 0; count < 10_000; count++) {
      const key = QueryKey.makeUnsafe({ db: "warehouse", query: `${count}` })
      keys.push(new WeakRef(key))
      yield* store.compareAndSet(key, { event: ["Queue", "Execute", "Finish"], timeToLive: "1 second", operation: 1 })
      yield* TestClock.adjust("10 millis")
    }
    // What was looked at in a turn of the event loop is kept until its end.
    yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
    collectGarbage()
    const kept = keys.filter((key) => key.deref() !== undefined).length
    // 100 have not expired.
    assert.isAtLeast(kept, 100)
    assert.isAtMost(kept, 2_000)
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("each memory store has its own queries", () =>
  Effect.gen(function*() {
    const key = yield* freshKey
    const queue = RedisStore.RedisStore.use((store) => store.compareAndSet(key, { event: "Queue" }))
    const answers = yield* Effect.all([
      Effect.provide(queue, RedisStoreMemory.layer),
      Effect.provide(queue, RedisStoreMemory.layer)
    ])
    assert.deepStrictEqual(answers.map(({ changed }) => changed), [true, true])
  }))
