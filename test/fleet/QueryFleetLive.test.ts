import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Stream } from "effect"
import { QueryFleet, QueryKey, RedisStoreFaults, RedisStoreLive } from "effect-query-state"
import { suite } from "../conformance/fleet.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"

const storeAt = (url: string) => RedisStoreLive.layer({ url: Redacted.make(url) })

suite("Redis", Layer.unwrap(Effect.map(RedisServer.acquire(), ({ url }) => RedisStoreFaults.layer(storeAt(url)))))

it.live("list uses SCAN in batches, never KEYS, and leaves out unreadable records", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    yield* Effect.gen(function*() {
      const fleet = yield* QueryFleet.make
      const db = QueryKey.DbId.make("warehouse")
      const keys = Array.from({ length: 5_000 }, (_, index) => QueryKey.makeUnsafe({ db, query: `${index}` }))
      yield* fleet.triggerMany("Queue", keys)
      yield* Effect.promise(() => admin.hset("query-state:{warehouse:strange}", { s: "paused", v: "1" }))
      yield* Effect.promise(() => admin.set("query-state:{warehouse:text}", "no record"))
      const strange = ["strange", "text"].map((query) => QueryKey.makeUnsafe({ db, query }))

      const listed = yield* Stream.runCollect(fleet.list(db))
      assert.strictEqual(new Set(listed.map(({ key }) => key.query)).size, keys.length)
      const { Queued, Unreadable } = yield* fleet.summary([...keys, ...strange])
      assert.deepStrictEqual({ Queued, Unreadable }, { Queued: keys.length, Unreadable: 2 })

      const stats = yield* Effect.promise(() => admin.info("commandstats"))
      const callsOf = (command: string) =>
        Number(new RegExp(String.raw`^cmdstat_${command}:calls=(\d+)`, "m").exec(stats)?.[1] ?? 0)
      assert.strictEqual(callsOf("keys"), 0)
      assert.isAtLeast(callsOf("scan"), 5)
    }).pipe(Effect.provide(storeAt(url)))
  }))
