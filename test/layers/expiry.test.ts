/** The time to live of records as Redis has it, also where other programs change it. */
import { assert, it } from "@effect/vitest"
import { DateTime, Effect, Layer, Redacted } from "effect"
import { type QueryKey, QueryRecord, RedisStore, RedisStoreFlowMachine, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import { inject } from "vitest"
import { driveTo, freshKey, redisKeyOf } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"

const url = Redacted.make(inject("redisUrl"))
const StoreLayer = RedisStoreLive.layer({ url, keep: { failed: "2 hours" } })

const withAdmin = <A>(f: (admin: Redis) => Promise<A>) =>
  Effect.scoped(Effect.flatMap(RedisAdmin.connect(inject("redisUrl")), (admin) => Effect.promise(() => f(admin))))

/** When the record of a query expires in Redis, in milliseconds; -1 for one that does not. */
const expiryOf = (key: QueryKey.QueryKey) => withAdmin((admin) => admin.pexpiretime(redisKeyOf(key)))

const stored = (key: QueryKey.QueryKey) => withAdmin((admin) => admin.hgetall(redisKeyOf(key)))

const keptMillis = ({ keptUntil }: QueryRecord.QueryRecord) =>
  keptUntil === undefined ? -1 : DateTime.toEpochMillis(keptUntil)

it.layer(StoreLayer, { excludeTestServices: true, timeout: "30 seconds" })("A record with a time to live", (it) => {
  it.effect("expires in Redis when it says, and its next transition takes the expiry off", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      for (const timeToLive of [undefined, "1 hour"] as const) {
        const key = yield* freshKey
        const record = yield* driveTo(key, "Errored", { timeToLive })
        assert.isAbove(keptMillis(record), 0)
        assert.strictEqual(yield* expiryOf(key), keptMillis(record))
        assert.strictEqual((yield* stored(key))["e"], `${keptMillis(record)}`)
        yield* store.compareAndSet(key, { event: "Reset" })
        assert.strictEqual(yield* expiryOf(key), -1)
        assert.isUndefined((yield* stored(key))["e"])
      }
    }))

  it.effect("is reset like others, and is then kept as Known for as long as they are", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* driveTo(key, "Errored", { timeToLive: "1 hour" })
      const { record } = yield* store.compareAndSet(key, { event: ["Reset", "FinishReset"] })
      const changedAt = record.changedAt ?? assert.fail("a changed record has a time")
      assert.isAtMost(
        yield* expiryOf(key),
        DateTime.toEpochMillis(DateTime.addDuration(changedAt, RedisStore.knownTimeToLive))
      )
      assert.isAbove(yield* expiryOf(key), 0)
      yield* store.compareAndSet(key, { event: "Queue" })
      assert.strictEqual(yield* expiryOf(key), -1)
    }))

  it.effect("is Known once it is over, also where another program took the expiry off", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const before = yield* driveTo(key, "Errored", { timeToLive: "1 hour" })
      // As if an hour had passed.
      yield* withAdmin((admin) => admin.persist(redisKeyOf(key)))
      yield* withAdmin(async (admin) => {
        const [seconds] = await admin.time()
        return admin.hset(redisKeyOf(key), "e", Number(seconds) * 1000, "o", "7")
      })
      assert.deepStrictEqual(yield* store.read(key), QueryRecord.absent(key))
      const lost = yield* Effect.flip(store.compareAndSet(key, { event: "Reset", fence: before.version }))
      assert.strictEqual(lost._tag, "LeaseLost")
      const { changed, record } = yield* store.compareAndSet(key, { event: "Queue", holder: "worker 1" })
      assert.isTrue(changed)
      const { o: _operation, ...fields } = yield* stored(key)
      assert.deepStrictEqual(fields, { s: "queued", v: `${record.version}`, h: "worker 1" })
      assert.deepStrictEqual(yield* store.read(key), record)
    }))
})

it.live("FlowMachine's states cannot expire: its layers refuse keep, and say so", () =>
  Effect.gen(function*() {
    // A caller without types can pass it.
    const keep = { completed: "1 hour" } as never
    const error = yield* Effect.flip(Effect.scoped(Layer.build(RedisStoreFlowMachine.layer({ url, keep }))))
    assert.strictEqual(error.reason._tag, "InvalidInput")
    assert.include(error.message, "leave out keep")
  }))
