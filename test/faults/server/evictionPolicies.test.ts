/** What each `maxmemory-policy` does to queries when memory is short. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { QueryState, RedisStore, RedisStoreLive } from "effect-query-state"
import { driveTo, errorFields, freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"

/** A query in each state that has a record for good. */
const kept = QueryState.tags.filter((tag) => tag !== "Known")

const policies: ReadonlyArray<readonly [policy: string, what: "keeps" | "loses"]> = [
  ["noeviction", "keeps"],
  ["volatile-lru", "keeps"],
  ["volatile-lfu", "keeps"],
  ["volatile-random", "keeps"],
  ["volatile-ttl", "keeps"],
  ["allkeys-lru", "loses"],
  ["allkeys-lfu", "loses"],
  ["allkeys-random", "loses"]
]

it.live.each(policies)("%s %s the records of queries when memory is short", ([policy, what]) =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire({ args: ["--maxmemory-policy", policy] })
    const admin = yield* RedisAdmin.connect(url)
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const queries = yield* Effect.forEach(kept, (tag) =>
        Effect.gen(function*() {
          const key = yield* freshKey
          yield* driveTo(key, tag)
          return { tag, key }
        }))
      // Less than the server needs for itself.
      yield* Effect.promise(() => admin.config("SET", "maxmemory", "500kb"))
      const claim = Effect.flip(Effect.flatMap(freshKey, (key) => store.compareAndSet(key, { event: "Queue" })))
      assert.strictEqual(errorFields(yield* claim)["_tag"], "OutOfMemory")
      const states = Effect.forEach(queries, ({ key }) => Effect.map(store.read(key), ({ state }) => state._tag))
      if (what === "keeps") assert.deepStrictEqual(yield* states, queries.map(({ tag }) => tag))
      else yield* Effect.repeat(states, { until: (states) => states.every((tag) => tag === "Known") })
    }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })))
  }))
