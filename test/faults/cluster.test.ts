import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Result, Schedule } from "effect"
import { QueryFleet, type QueryKey, QueryStateMachine, RedisStoreLive } from "effect-query-state"
import { freshKey } from "../support/queries.ts"
import * as RedisCluster from "../support/RedisCluster.ts"

class Cluster extends Context.Service<Cluster, RedisCluster.RedisCluster>()("test/faults/Cluster") {
  static readonly layer = Layer.effect(Cluster, RedisCluster.acquire())
}

const Stores = Layer.unwrap(
  Effect.map(
    Cluster,
    ({ primaries }) =>
      RedisStoreLive.layerCluster({ nodes: primaries.map(({ server: { host, port } }) => ({ host, port })) })
  )
).pipe(Layer.provideMerge(Cluster.layer))

const redisKeyOf = (key: QueryKey.QueryKey) => `query-state:{${key.db}:${key.query}}`

/** Waits until somebody has subscribed to the channels of all these queries, on whatever server. */
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
  it.effect("goes on telling waits of changes", () =>
    Effect.gen(function*() {
      const cluster = yield* Cluster
      const fleet = yield* QueryFleet.make
      const keys = yield* Effect.replicateEffect(freshKey, 30)
      yield* fleet.triggerMany("Queue", keys)
      const waits = yield* Effect.forkChild(fleet.waitAllCollect(keys))
      yield* subscribed(keys)
      yield* Effect.forEach(keys, (key) => RedisCluster.moveSlotOf(cluster, redisKeyOf(key)))
      yield* fleet.triggerMany("Cancel", keys)
      const outcomes = yield* Fiber.join(waits)
      assert.deepStrictEqual<unknown>(
        outcomes.map(({ key, result }) => ({ key, became: Result.map(result, ({ state }) => state._tag) })),
        keys.map((key) => ({ key, became: Result.succeed("Cancelled") }))
      )
    }))
})

it.layer(Layer.fresh(Stores), { excludeTestServices: true, timeout: "30 seconds" })(
  "A cluster of which a primary dies",
  (it) => {
    it.effect("goes on with owned work and with waits when its replica has taken over", () =>
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
        assert.strictEqual(yield* query.executing(() => work, { lease: "20 seconds" }), "done")
        assert.strictEqual((yield* Fiber.join(waiter)).state._tag, "Completed")
      }))
  }
)
