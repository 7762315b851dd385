import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Schedule } from "effect"
import { QueryRecord, QueryState, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import { inject } from "vitest"
import { driveTo, errorFields, freshKey, redisKeyOf } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) })
const pendingTags = (["Queued", "Executing", "Resetting"] as const).map((tag) => ({ tag }))

const remove = Effect.fnUntraced(function*(key: QueryRecord.QueryRecord["key"]) {
  const admin = yield* RedisAdmin.connect(inject("redisUrl"))
  yield* Effect.promise(() => admin.del(redisKeyOf(key)))
}, Effect.scoped)

it.layer(StoreLayer, { excludeTestServices: true })("A deleted record", (it) => {
  it.effect.each(QueryState.tags.map((tag) => ({ tag })))(
    "in state $tag reads as Known, and later versions are higher",
    ({ tag }) =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const { version } = yield* driveTo(key, tag)
        yield* remove(key)
        assert.deepStrictEqual(yield* store.read(key), QueryRecord.absent(key))
        assert.isAbove((yield* store.compareAndSet(key, { event: "Queue" })).record.version, version)
      })
  )

  it.effect.each(pendingTags)(
    "in state $tag ends its waits at their next read",
    ({ tag }) =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        yield* driveTo(key, tag)
        const schedule = Schedule.spaced("20 millis")
        const waiter = yield* Effect.forkChild(query.waitUntilComplete({ schedule }), { startImmediately: true })
        yield* remove(key)
        assert.deepStrictEqual(yield* Fiber.join(waiter), QueryRecord.absent(key))
      })
  )

  it.effect("ends its waits although other fibers read it all the time", () =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      yield* driveTo(key, "Executing")
      const schedule = Schedule.spaced("50 millis")
      const waiter = yield* Effect.forkChild(query.waitUntilComplete({ schedule }), { startImmediately: true })
      yield* Effect.forkChild(Effect.repeat(query.record, Schedule.spaced("5 millis")))
      yield* remove(key)
      assert.deepStrictEqual(yield* Fiber.join(waiter), QueryRecord.absent(key))
    }))

  it.effect("interrupts the work of its holder with LeaseLost", () =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      yield* query.enqueue
      let fence = 0
      const error = yield* Effect.flip(query.withExecution((claim) => {
        fence = claim.fence
        return Effect.andThen(remove(key), Effect.never)
      }, { lease: "300 millis" }))
      assert.deepStrictEqual(error._tag === "LeaseLost" && errorFields(error), {
        _tag: "LeaseLost",
        fence,
        record: QueryRecord.absent(key)
      })
      assert.deepStrictEqual(yield* query.currentState, QueryState.known)
    }))

  it.effect("that is created again accepts no earlier fence", () =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      const { version: fence } = yield* driveTo(key, "Executing", { holder: "A", lease: "1 hour" })
      yield* remove(key)
      const record = yield* driveTo(key, "Executing", { holder: "B", lease: "1 hour" })
      const error = yield* Effect.flip(query.trigger("Finish", { fence }))
      assert.deepStrictEqual(error._tag === "LeaseLost" && errorFields(error), { _tag: "LeaseLost", fence, record })
    }))
})
