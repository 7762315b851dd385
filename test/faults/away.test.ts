/** A server that is not there for a while. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { RedisStore, RedisStoreLive } from "effect-query-state"
import * as Hints from "../support/hints.ts"
import { freshKey } from "../support/queries.ts"
import * as RedisAdmin from "../support/redisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"
import * as Subscribed from "../support/subscribed.ts"

it.live("a server that is away for a while and comes back is used by the same store again, notifications and all", () =>
  Effect.gen(function*() {
    const first = yield* RedisServer.acquire()
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const hints = yield* Hints.subscribe(key)
      yield* first.stop
      // Long enough for ioredis to try again less and less often.
      const errors = yield* Effect.replicateEffect(Effect.flip(store.read(key)), 5)
      assert.deepStrictEqual(
        errors.map(({ reason }) => ["ConnectionLost", "TimedOut"].includes(reason._tag)),
        errors.map(() => true)
      )
      const { url } = yield* RedisServer.acquire({ port: first.port })
      yield* Effect.retry(store.read(key), { while: ({ reason }) => reason._tag !== "InvalidInput" })
      const admin = yield* RedisAdmin.connect(url)
      yield* Effect.repeat(Effect.delay(Subscribed.channels(admin), 1), { until: ({ size }) => size === 1 })
      const { record } = yield* store.compareAndSet(key, { event: "Queue" })
      yield* Effect.repeat(hints.next, { until: (version) => version === record.version })
    }).pipe(
      Effect.scoped,
      Effect.provide(RedisStoreLive.layer({ url: Redacted.make(first.url), commandTimeout: "300 millis" }))
    )
  }))
