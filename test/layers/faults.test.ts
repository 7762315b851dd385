/** What `RedisStoreFaults` disturbs, and what it lets pass. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Queue, Redacted } from "effect"
import { type QueryRecord, RedisStore, RedisStoreFaults, RedisStoreLive, RedisStoreMemory } from "effect-query-state"
import { inject } from "vitest"
import { driveTo, freshKey } from "../support/queries.ts"

const Stores = [
  ["memory", RedisStoreMemory.layer],
  ["Redis", Layer.suspend(() => RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) }))]
] as const

it.live.each(Stores)(
  "in %s, the record of a read is no notification, and reaches listeners as it is",
  ([, store]) =>
    Effect.gen(function*() {
      const { compareAndSet, changes, read } = yield* RedisStore.RedisStore
      const faults = yield* RedisStoreFaults.RedisStoreFaults
      const key = yield* freshKey
      const queued = yield* driveTo(key, "Queued")

      const published: Array<QueryRecord.QueryRecord> = []
      const heard = yield* Queue.unbounded<
        readonly [record: QueryRecord.QueryRecord | "gap", source?: RedisStore.Source]
      >()
      yield* changes(key, {
        onRecord: (record, source) => Queue.offerUnsafe(heard, [record, source]),
        onGap: () => Queue.offerUnsafe(heard, ["gap"])
      })
      yield* faults.injectNotifications((record) => {
        published.push(record)
        return ["gap"]
      })

      yield* read(key)
      assert.deepStrictEqual(yield* Queue.takeAll(heard), [[queued, "read"]])
      assert.deepStrictEqual(published, [])

      const { record } = yield* compareAndSet(key, { event: "Execute" })
      assert.deepStrictEqual(yield* Queue.take(heard), ["gap"])
      assert.deepStrictEqual(published, [record])
    }).pipe(Effect.scoped, Effect.provide(RedisStoreFaults.layer(store)))
)
