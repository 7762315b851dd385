/** The one subscriber connection of a store in Redis, and its channels, as the server sees them. */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Layer, Redacted, Scope } from "effect"
import { QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import { suite } from "../conformance/changes.ts"
import * as Notifications from "../support/Notifications.ts"
import { driveTo, freshKey, redisKeyOf } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"
import * as ServerStats from "../support/ServerStats.ts"

suite(
  "Redis",
  Layer.unwrap(Effect.map(RedisServer.acquire(), ({ url }) => RedisStoreLive.layer({ url: Redacted.make(url) }))),
  { excludeTestServices: true }
)

/** A separate server with one store. */
const alone = <A, E>(
  test: (admin: Redis) => Effect.Effect<A, E, RedisStore.RedisStore | Scope.Scope>
) =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    return yield* Effect.provide(test(admin), RedisStoreLive.layer({ url: Redacted.make(url) }))
  })

it.live("a subscription returns once SUBSCRIBE is acknowledged, and its channel is dropped with its last reader", () =>
  alone((admin) =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const scopes: Array<Scope.Closeable> = []
      for (let reader = 0; reader < 5; reader++) {
        const scope = yield* Scope.make()
        scopes.push(scope)
        yield* Scope.provide(Notifications.ignored(key), scope)
        assert.deepStrictEqual(yield* ServerStats.channels(admin), new Map([[redisKeyOf(key), 1]]))
      }
      for (const scope of scopes) {
        // By the same connection, so that all earlier messages have arrived.
        yield* Effect.scoped(Effect.flatMap(freshKey, Notifications.ignored))
        assert.strictEqual((yield* ServerStats.channels(admin)).get(redisKeyOf(key)), 1)
        yield* Scope.close(scope, Exit.void)
      }
      yield* ServerStats.none(admin)
    })
  ))

it.live("there is no subscriber connection before the first subscription, and then exactly one", () =>
  alone((admin) =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const keys = yield* Effect.replicateEffect(freshKey, 2_500)
      yield* store.readMany(keys)
      assert.strictEqual(yield* ServerStats.connections(admin), 0)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Effect.forEach([...keys, ...keys], Notifications.ignored, { concurrency: "unbounded", discard: true })
        assert.strictEqual(yield* ServerStats.connections(admin), 1)
        assert.deepStrictEqual(
          yield* ServerStats.channels(admin),
          new Map(keys.map((key) => [redisKeyOf(key), 1]))
        )
      }))
      yield* ServerStats.none(admin)
    })
  ))

it.live("a wait for a determinate query opens no subscription", () =>
  alone((admin) =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const record = yield* driveTo(key, "Completed")
      const query = yield* QueryStateMachine.make(key)
      const before = yield* ServerStats.scripts(admin)
      assert.deepStrictEqual(yield* query.waitUntilComplete(), record)
      assert.strictEqual((yield* ServerStats.scripts(admin)) - before, 1)
      assert.strictEqual(yield* ServerStats.connections(admin), 0)
    })
  ))

it.live("closing the store closes the subscriber connection", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    yield* Effect.scoped(Effect.gen(function*() {
      yield* Effect.flatMap(freshKey, Notifications.ignored)
      assert.strictEqual(yield* ServerStats.connections(admin), 1)
    })).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })))
    yield* Effect.repeat(ServerStats.connections(admin), { until: (connections) => connections === 0 })
  }))
