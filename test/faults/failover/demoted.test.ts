import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { QueryState, QueryStateMachine, RedisStoreLive } from "effect-query-state"
import { lifecyclesDuring } from "../../support/lifecycles.ts"
import { errorFields, freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"

it.live("a primary demoted briefly under load delays transitions and loses none", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)

    yield* Effect.gen(function*() {
      const demote = Effect.gen(function*() {
        // There is no server to replicate from, so the data stays.
        yield* Effect.promise(() => admin.replicaof("127.0.0.1", 1))
        yield* Effect.sleep("100 millis")
        yield* Effect.promise(() => admin.replicaof("NO", "ONE"))
      })
      yield* lifecyclesDuring(Effect.delay(demote, "50 millis"), { faults: 2, queries: 8 })
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
