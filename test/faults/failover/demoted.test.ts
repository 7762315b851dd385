import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Ref } from "effect"
import { type QueryKey, QueryState, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import { errorFields, freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"

const life = ["Queue", "Execute", "Finish", "Reset", "FinishReset"] as const

it.live("a primary demoted briefly under load delays transitions and loses none", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)

    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const demotions = yield* Ref.make(0)
      const live = (key: QueryKey.QueryKey) =>
        Effect.gen(function*() {
          for (const event of life) {
            const { changed, record } = yield* store.compareAndSet(key, { event })
            assert.deepStrictEqual([changed, record], [true, yield* store.read(key)])
          }
          return yield* Ref.get(demotions)
        })
      const demote = Effect.gen(function*() {
        // Nothing is there to replicate from, so the data stays.
        yield* Effect.promise(() => admin.replicaof("127.0.0.1", 1))
        yield* Effect.sleep("100 millis")
        yield* Effect.promise(() => admin.replicaof("NO", "ONE"))
        yield* Ref.update(demotions, (n) => n + 1)
      })
      const untilDemotedTwice = (key: QueryKey.QueryKey) => Effect.repeat(live(key), { until: (n) => n === 2 })
      const lives = yield* Effect.forkChild(
        Effect.replicateEffect(Effect.flatMap(freshKey, untilDemotedTwice), 8, { concurrency: "unbounded" })
      )
      yield* Effect.replicateEffect(Effect.delay(demote, "50 millis"), 2)
      yield* Fiber.join(lives)
    }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })))
  }))

it.live("a primary that stays demoted gives a typed error and reports no change", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)

    yield* Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      yield* query.enqueue
      yield* Effect.promise(() => admin.replicaof("127.0.0.1", 1))
      const error = yield* Effect.flip(query.execute)
      assert.deepStrictEqual(errorFields(error), { _tag: "ReadOnly", operation: "Execute", key })

      yield* Effect.promise(() => admin.replicaof("NO", "ONE"))
      assert.deepStrictEqual(yield* query.currentState, QueryState.make("Queued"))
    }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url), commandTimeout: "300 millis" })))
  }))
