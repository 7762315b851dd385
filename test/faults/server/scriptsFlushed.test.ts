import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { RedisStore, RedisStoreLive } from "effect-query-state"
import { lifecyclesDuring } from "../../support/lifecycles.ts"
import { freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"

it.live("a server that repeatedly forgets its scripts loses no transition", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    const flush = Effect.promise(() => admin.script("FLUSH"))
    yield* lifecyclesDuring(flush, { faults: 50, queries: 16 }).pipe(
      Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) }))
    )
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
