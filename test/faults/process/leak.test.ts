/** Waits that are started and interrupted repeatedly leave no resources. */
import { assert, it } from "@effect/vitest"
import { Array as Arr, Effect, Fiber, Metric, Random, Redacted, Stream } from "effect"
import { type QueryKey, QueryStateMachine, RedisStore, RedisStoreLive, RedisStoreMemory } from "effect-query-state"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"
import * as ServerStats from "../../support/ServerStats.ts"

const atOnce = 500

/** Interrupts waits for queries that stay Queued, and consumers of their changes, at random points. */
const beginAndInterrupt = Effect.fnUntraced(function*(keys: ReadonlyArray<QueryKey.QueryKey>) {
  const fibers = yield* Effect.forEach(keys, (key, index) =>
    QueryStateMachine.make(key).pipe(
      Effect.flatMap((query): Effect.Effect<unknown, unknown> =>
        index % 10 === 0 ? Stream.runDrain(query.changes) : query.waitUntilComplete()
      ),
      Effect.forkChild
    ))
  yield* Effect.sleep(yield* Random.nextIntBetween(0, 40))
  yield* Fiber.interruptAll(fibers)
})

const queued = Effect.fnUntraced(function*(count: number) {
  const store = yield* RedisStore.RedisStore
  const keys = yield* Effect.replicateEffect(freshKey, count)
  yield* store.compareAndSetMany(keys.map((key) => [key, { event: "Queue" }]))
  return keys
})

setFlagsFromString("--expose-gc")
const collectGarbage: () => void = runInNewContext("gc")

/** What is alive by now. */
const alive = Effect.gen(function*() {
  // What is on its way when it is interrupted may end a moment later.
  yield* Effect.sleep("100 millis")
  for (let round = 0; round < 4; round++) collectGarbage()
  const metrics = yield* Metric.snapshot
  const fibers = metrics.find(({ id }) => id === "child_fibers_active")
  return { heapBytes: process.memoryUsage().heapUsed, fibers: fibers?.state }
})

/** Waits and interrupts, and finds that no more is left of many cycles than of a few. */
const leavesNothing = Effect.fnUntraced(function*(cycles: number) {
  const keys = yield* queued(cycles)
  const batches = Arr.chunksOf(keys, atOnce)
  yield* Effect.forEach(batches.slice(0, 4), beginAndInterrupt, { discard: true })
  const before = yield* alive
  yield* Effect.forEach(batches, beginAndInterrupt, { discard: true })
  const after = yield* alive
  assert.deepStrictEqual(after.fibers, before.fibers)
  // A number, a closure, or an entry of a map, each cycle, would be more.
  assert.isBelow(after.heapBytes - before.heapBytes, cycles * 16)
}, Effect.provide(Metric.enableRuntimeMetricsLayer))

it.live(
  "20,000 interrupted waits in memory leak neither fibers nor memory",
  () => Effect.provide(leavesNothing(20_000), RedisStoreMemory.layer),
  { timeout: 90_000 }
)

it.live(
  "100,000 interrupted waits in Redis leak no channels, fibers or memory",
  () =>
    Effect.gen(function*() {
      const { url } = yield* RedisServer.acquire()
      const admin = yield* RedisAdmin.connect(url)
      yield* Effect.gen(function*() {
        yield* leavesNothing(100_000)
        yield* ServerStats.none(admin)
        assert.isAtMost(yield* ServerStats.connections(admin), 1)
      }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })))
    }),
  { timeout: 90_000 }
)
