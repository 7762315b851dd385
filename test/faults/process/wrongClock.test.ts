import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { QueryState, QueryStateMachine, Reason, RedisStoreLive } from "effect-query-state"
import { randomUUID } from "node:crypto"
import { afterAll, beforeAll, inject, vi } from "vitest"
import { suite } from "../../conformance/store.ts"
import { freshKey } from "../../support/queries.ts"

const tenMinutes = 10 * 60 * 1000

// The clock of this process is as wrong as can be: it stands still, ten minutes ahead.
beforeAll(() => {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + tenMinutes })
})
afterAll(() => {
  vi.useRealTimers()
})

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")), prefix: `clock-${randomUUID()}` })

suite("Redis, from a process with a wrong clock", StoreLayer, { time: "real" })

it.layer(StoreLayer, { excludeTestServices: true })("A process with a wrong clock", (it) => {
  it.effect("renews its claim beyond a lease, and its wait ends when another lease lapses", () =>
    Effect.gen(function*() {
      const kept = yield* QueryStateMachine.make(yield* freshKey)
      yield* kept.enqueue
      assert.strictEqual(
        yield* kept.withExecution(() => Effect.as(Effect.sleep("400 millis"), "done"), { lease: "150 millis" }),
        "done"
      )

      const left = yield* QueryStateMachine.make(yield* freshKey)
      yield* left.trigger("Queue", { holder: "gone", lease: "100 millis" })
      assert.deepStrictEqual(
        (yield* left.waitUntilComplete()).state,
        QueryState.make("Cancelled", { reason: Reason.leaseExpired("gone") })
      )
    }))
})
