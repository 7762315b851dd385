import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Result, Schedule } from "effect"
import { QueryFleet, type QueryKey, QueryStateMachine, RedisStoreLive } from "effect-query-state"
import { freshKey, redisKeyOf } from "../../support/queries.ts"
import * as RedisCluster from "../../support/RedisCluster.ts"

class Cluster extends Context.Service<Cluster, RedisCluster.RedisCluster>()("test/faults/Cluster") {
  static readonly layer = Layer.effect(Cluster, RedisCluster.acquire())
}

const nodesOf = ({ primaries }: RedisCluster.RedisCluster) =>
  primaries.map(({ server: { host, port } }) => ({ host, port }))

const Stores = Layer.unwrap(
  Effect.map(Cluster, (cluster) => RedisStoreLive.layerCluster({ nodes: nodesOf(cluster) }))
).pipe(Layer.provideMerge(Cluster.layer))

/** Waits until the channels of all these queries have a subscriber on some server. */
const subscribed = (keys: ReadonlyArray<QueryKey.QueryKey>) =>
  Effect.gen(function*() {
    const { primaries } = yield* Cluster
    const channels = Effect.forEach(primaries, ({ admin }) =>
      Effect.promise(() => admin.call("PUBSUB", "SHARDCHANNELS") as Promise<Array<string>>))
    yield* Effect.repeat(
      Effect.map(channels, (perServer) =>
        new Set(perServer.flat())),
      {
        schedule: Schedule.spaced("20 millis"),
        until: (channels) => keys.every((key) => channels.has(redisKeyOf(key)))
      }
    )
  })

it.layer(Stores, { excludeTestServices: true, timeout: "30 seconds" })("A cluster whose slots move", (it) => {
  it.effect("still notifies waits of changes", () =>
    Effect.gen(function*() {
      const cluster = yield* Cluster
      const fleet = yield* QueryFleet.make
      const keys = yield* Effect.replicateEffect(freshKey, 30)
      yield* fleet.triggerMany("Queue", keys)
      const waits = yield* Effect.forkChild(fleet.waitAllCollect(keys))
      yield* subscribed(keys)
      yield* Effect.forEach(keys, (key) => RedisCluster.moveSlotOf(cluster, redisKeyOf(key)))
      const cancelled = yield* fleet.triggerMany("Cancel", keys)
      assert.deepStrictEqual(cancelled.filter((result) => !Result.isSuccess(result) || !result.success.changed), [])
      const outcomes = yield* Fiber.join(waits)
      assert.deepStrictEqual<unknown>(
        outcomes.map(({ key, result }) => ({ key, became: Result.map(result, ({ state }) => state._tag) })),
        keys.map((key) => ({ key, became: Result.succeed("Cancelled") }))
      )
    }))
})

it.layer(Cluster.layer, { excludeTestServices: true, timeout: "30 seconds" })(
  "A cluster with a migrating slot",
  (it) => {
    it.effect.each([
      { history: undefined, isServed: true },
      // There is neither a record nor a history yet, and neither server knows that the other has none.
      { history: { length: 10 }, isServed: false }
    ])("takes a new query with the history $history: $isServed", ({ history, isServed }) =>
      Effect.gen(function*() {
        const cluster = yield* Cluster
        const key = yield* freshKey
        const other = `${redisKeyOf(key)}:other`
        const primary = yield* RedisCluster.primaryOf(cluster, other)
        yield* Effect.promise(() => primary.admin.set(other, "has to be moved"))
        const store = yield* Layer.build(
          RedisStoreLive.layerCluster({ nodes: nodesOf(cluster), commandTimeout: "3 seconds", history })
        )
        const query = yield* Effect.provide(QueryStateMachine.make(key), store)
        const { handOver } = yield* RedisCluster.beginToMoveSlotOf(cluster, other)
        const result = yield* Effect.result(query.enqueue)
        assert.strictEqual(
          Result.isSuccess(result) ? "served" : result.failure.reason._tag,
          isServed ? "served" : "Unavailable"
        )
        yield* handOver
        yield* query.enqueue
        assert.isTrue(yield* query.isQueued)
      }))
  }
)

it.layer(Layer.fresh(Stores), { excludeTestServices: true, timeout: "30 seconds" })(
  "A cluster whose primary dies",
  (it) => {
    it.effect("continues claimed work and waits after its replica has taken over", () =>
      Effect.gen(function*() {
        const cluster = yield* Cluster
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        yield* query.enqueue
        const work = Effect.gen(function*() {
          yield* subscribed([key])
          const primary = yield* RedisCluster.primaryOf(cluster, redisKeyOf(key))
          yield* RedisCluster.replicated(primary)
          yield* primary.server.stop
          yield* RedisCluster.primaryOf(cluster, redisKeyOf(key))
          return "done"
        })
        const waiter = yield* Effect.forkChild(query.waitUntilComplete())
        assert.strictEqual(yield* query.withExecution(() => work, { lease: "20 seconds" }), "done")
        assert.strictEqual((yield* Fiber.join(waiter)).state._tag, "Completed")
      }))
  }
)
