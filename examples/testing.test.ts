/**
 * Tests of a program that uses this library: in memory, in virtual time, with injected faults.
 *
 *     npx vitest run examples/testing.test.ts
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Ref, Result } from "effect"
import { QueryKey, QueryStateMachine, RedisStoreError, RedisStoreFaults, RedisStoreMemory } from "effect-query-state"
import { TestClock } from "effect/testing"

// The program: a report that takes an hour, and that many readers want.
const makeReport = Effect.gen(function*() {
  const query = yield* QueryStateMachine.make(yield* QueryKey.make({ db: "warehouse", query: "report" }))
  const computed = yield* Ref.make(0)
  const execute = () =>
    Effect.sleep("1 hour").pipe(
      Effect.andThen(Ref.update(computed, (n) => n + 1)),
      Effect.as("1,204 rows")
    )
  return { query, computed, get: query.run({ execute, result: Effect.succeedSome("1,204 rows"), lease: "1 minute" }) }
})

const StoreLayer = RedisStoreFaults.layer(RedisStoreMemory.layer)

describe("the report", () => {
  it.effect("is computed once for many concurrent callers", () =>
    Effect.gen(function*() {
      const { computed, get } = yield* makeReport
      const readers = yield* Effect.forkChild(Effect.replicateEffect(get, 10, { concurrency: "unbounded" }))

      // The lease of a minute is renewed all this time.
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(readers)
      assert.strictEqual(yield* Ref.get(computed), 1)
    }).pipe(Effect.provide(StoreLayer)))

  it.effect("is computed by another process when the first one dies", () =>
    Effect.gen(function*() {
      const { computed, get, query } = yield* makeReport
      // A dead process leaves a claim that nothing renews.
      yield* query.enqueue
      yield* query.trigger("Execute", { holder: "dead", lease: "1 minute" })

      const reader = yield* Effect.forkChild(get)
      yield* TestClock.adjust("1 minute")
      assert.isTrue(yield* query.isExecuting)
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(reader)
      assert.strictEqual(yield* Ref.get(computed), 1)
    }).pipe(Effect.provide(StoreLayer)))

  it.effect("fails with a typed error while Redis is away, and works again when it is back", () =>
    Effect.gen(function*() {
      const faults = yield* RedisStoreFaults.RedisStoreFaults
      const { get } = yield* makeReport

      yield* faults.inject(() => ({ _tag: "Fail", reason: new RedisStoreError.ConnectionLost({}) }))
      const error = yield* Effect.flip(get)
      assert.deepStrictEqual([error._tag, "reason" in error && error.reason._tag], [
        "RedisStoreError",
        "ConnectionLost"
      ])

      yield* faults.heal
      const reader = yield* Effect.forkChild(get)
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(reader)
    }).pipe(Effect.provide(StoreLayer)))

  it.effect("is delivered even if every notification is lost", () =>
    Effect.gen(function*() {
      const faults = yield* RedisStoreFaults.RedisStoreFaults
      const { get, query } = yield* makeReport
      yield* faults.injectNotifications(() => [])
      yield* query.enqueue
      yield* query.execute

      const reader = yield* Effect.forkChild(Effect.result(get))
      yield* query.finish
      // The backstop read comes every 30 seconds, with jitter.
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* Fiber.join(reader), Result.succeed("1,204 rows"))
    }).pipe(Effect.provide(StoreLayer)))
})
