import { assert, it } from "@effect/vitest"
import { Context, type Duration, Effect, Layer, Result } from "effect"
import { type QueryKey, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import { driveTo, freshKey, redisKeyOf } from "../../support/queries.ts"
import * as RedisCluster from "../../support/RedisCluster.ts"
import * as Replicated from "../../support/Replicated.ts"

class Cluster extends Context.Service<Cluster, RedisCluster.RedisCluster>()("test/replicasCluster/Cluster") {
  static readonly layer = Layer.effect(Cluster, RedisCluster.acquire())
}

const storeWith = (timeout: Duration.Input, commandTimeout?: Duration.Input) =>
  Layer.unwrap(Cluster.useSync(({ primaries }) =>
    RedisStoreLive.layerCluster({
      nodes: primaries.map(({ server: { host, port } }) => ({ host, port })),
      replicas: { count: 1, timeout },
      commandTimeout
    })
  ))

/** Queries of all primaries. */
const keys = Effect.replicateEffect(freshKey, 30)

/** The state of a query as the replicas of its primary have it now. */
const stateOnReplica = (key: QueryKey.QueryKey) =>
  Effect.gen(function*() {
    const { replicas } = yield* Cluster
    const found = yield* Effect.forEach(replicas, ({ admin }) =>
      Effect.promise(async () => {
        await admin.readonly()
        return await admin.hget(redisKeyOf(key), "s").catch(() => null)
      }))
    return found.find((state) => state !== null)
  })

it.layer(Cluster.layer, { excludeTestServices: true, timeout: "30 seconds" })(
  "A cluster whose writes are replicated",
  (it) => {
    it.effect("has replicated to each replica what its primary answers", () =>
      Effect.gen(function*() {
        for (const key of yield* keys) {
          yield* driveTo(key, "Executing")
          assert.strictEqual(yield* stateOnReplica(key), "executing")
        }
      }).pipe(Effect.provide(storeWith("1 second"))))

    it.effect("fails only for the queries of a primary whose replica is silent", () =>
      Effect.gen(function*() {
        const cluster = yield* Cluster
        const store = yield* RedisStore.RedisStore
        const all = yield* keys
        const primaries = yield* Effect.forEach(all, (key) => RedisCluster.primaryOf(cluster, redisKeyOf(key)))
        yield* Effect.forEach(cluster.replicas.slice(0, 1), Replicated.frozen)
        const answers = yield* store.compareAndSetMany(all.map((key) => [key, { event: "Queue" }]))
        assert.deepStrictEqual(
          answers.map(Result.match({
            onFailure: (error) => "reason" in error ? error.reason._tag : error._tag,
            onSuccess: ({ changed }) => changed
          })),
          primaries.map((primary) => primary === cluster.primaries[0] ? "NotReplicated" : true)
        )
        const records = yield* store.readMany(all)
        assert.deepStrictEqual(
          records.map(Result.map(({ state }) => state._tag)),
          all.map(() => Result.succeed("Queued"))
        )
      }).pipe(Effect.scoped, Effect.provide(storeWith("300 millis"))))

    it.effect("continues with the new replica when the slot of a query has moved", () =>
      Effect.gen(function*() {
        const cluster = yield* Cluster
        const store = yield* RedisStore.RedisStore
        const moved = yield* Effect.replicateEffect(freshKey, 3)
        for (const key of moved) {
          const { version } = yield* driveTo(key, "Executing", { lease: "1 hour" })
          yield* RedisCluster.moveSlotOf(cluster, redisKeyOf(key))
          assert.isTrue((yield* store.compareAndSet(key, { event: "Finish", fence: version })).changed)
          assert.strictEqual(yield* stateOnReplica(key), "completed")
        }
      }).pipe(Effect.provide(storeWith("1 second"))))

    it.effect("serves a query that is on its way to another server, with the replica of that server", () =>
      Effect.gen(function*() {
        const cluster = yield* Cluster
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        yield* driveTo(key, "Executing")
        const { handOver } = yield* RedisCluster.beginToMoveSlotOf(cluster, redisKeyOf(key))
        assert.isTrue((yield* store.compareAndSet(key, { event: "Finish" })).changed)
        assert.strictEqual((yield* store.read(key)).state._tag, "Completed")
        yield* handOver
        yield* Effect.repeat(stateOnReplica(key), { until: (state) => state === "completed" })
      }).pipe(Effect.provide(storeWith("500 millis", "1 second"))))

    it.effect("continues claimed work after a primary has died and its replica has taken over", () =>
      Effect.gen(function*() {
        const cluster = yield* Cluster
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        yield* query.enqueue
        // There is no replica left to wait for, once the only one has taken over.
        const work = Effect.gen(function*() {
          const primary = yield* RedisCluster.primaryOf(cluster, redisKeyOf(key))
          yield* primary.server.stop
          yield* RedisCluster.primaryOf(cluster, redisKeyOf(key))
        })
        const error = yield* Effect.flip(query.withExecution(() => work, { lease: "20 seconds" }))
        assert.deepInclude("reason" in error ? error.reason : error, {
          _tag: "NotReplicated",
          wanted: 1,
          acknowledged: 0
        })
        assert.strictEqual((yield* query.currentState)._tag, "Completed")
      }).pipe(Effect.provide(storeWith("300 millis"))))
  }
)
