import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Ref } from "effect"
import { type QueryKey, RedisStore, RedisStoreLive } from "effect-query-state"
import { freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"

const life = ["Queue", "Execute", "Finish", "Reset", "FinishReset"] as const

it.live("a server that repeatedly forgets its scripts loses no transition", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    const flushes = yield* Ref.make(0)
    const flush = Effect.andThen(Effect.promise(() => admin.script("FLUSH")), Ref.update(flushes, (n) => n + 1))

    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const live = (key: QueryKey.QueryKey) =>
        Effect.gen(function*() {
          for (const event of life) assert.isTrue((yield* store.compareAndSet(key, { event })).changed)
          return yield* Ref.get(flushes)
        })
      const lives = yield* Effect.forkChild(
        Effect.replicateEffect(
          Effect.flatMap(freshKey, (key) => Effect.repeat(live(key), { until: (n) => n === 50 })),
          16,
          { concurrency: "unbounded" }
        )
      )
      yield* Effect.replicateEffect(flush, 50)
      yield* Fiber.join(lives)
    }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })))
  }))

it.live("a new empty server in place of the old one works without errors", () =>
  Effect.gen(function*() {
    const first = yield* RedisServer.acquire()
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const { record } = yield* store.compareAndSet(key, { event: "Queue" })
      yield* first.stop
      yield* RedisServer.acquire({ port: first.port })
      const again = yield* store.compareAndSet(key, { event: "Queue" })
      assert.isTrue(again.changed)
      assert.isAbove(again.record.version, record.version)
    }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(first.url) })))
  }))
