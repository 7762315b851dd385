import { assert, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import { freshKey } from "../../support/queries.ts"
import * as RedisCluster from "../../support/RedisCluster.ts"

/** What nobody catches, while the scope is open. Without a listener it would end the process. */
const unhandled = Effect.acquireRelease(
  Effect.sync(() => {
    const reasons: Array<unknown> = []
    const listener = (reason: unknown) => reasons.push(reason)
    process.on("unhandledRejection", listener)
    return { reasons, listener }
  }),
  ({ listener }) => Effect.sync(() => process.off("unhandledRejection", listener))
)

it.live("a primary that dies while it imports a slot ends no process, and every call ends", () =>
  Effect.gen(function*() {
    const { reasons } = yield* unhandled
    const cluster = yield* RedisCluster.acquire()
    const nodes = cluster.primaries.map(({ server: { host, port } }) => ({ host, port }))
    const key = yield* freshKey
    const redisKey = `query-state:{${key.db}:${key.query}}`
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const query = yield* QueryStateMachine.make(key)
      yield* query.enqueue
      const from = yield* RedisCluster.primaryOf(cluster, redisKey)
      const to = cluster.primaries.find((node) => node !== from)
      yield* RedisCluster.beginToMoveSlotOf(cluster, redisKey)
      const calls = Effect.forEach(Array.from({ length: 200 }), () => Effect.result(store.read(key)), {
        concurrency: "unbounded"
      })
      const died = to === undefined ? Effect.void : Effect.delay(to.server.stop, "5 millis")
      const [results] = yield* Effect.all([Effect.repeat(calls, { times: 5 }), died], { concurrency: "unbounded" })
      for (const result of results) {
        if (Result.isFailure(result)) {
          assert.include(["ConnectionLost", "Unavailable", "TimedOut"], result.failure.reason._tag)
        }
      }
    }).pipe(Effect.scoped, Effect.provide(RedisStoreLive.layerCluster({ nodes, commandTimeout: "1 second" })))
    yield* Effect.sleep("100 millis")
    assert.deepStrictEqual(reasons, [])
  }))
