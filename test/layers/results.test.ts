/** What the runs of a query leave behind in Redis. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { RedisStore, RedisStoreLive } from "effect-query-state"
import { inject } from "vitest"
import { freshKey, redisKeyOf } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"

const path = ["Queue", "Execute", "Finish"] as const

it.layer(RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) }), { excludeTestServices: true })(
  "A result in Redis",
  (it) => {
    it.effect("is a hash beside the record, which expires with it", () =>
      Effect.gen(function*() {
        const admin = yield* RedisAdmin.connect(inject("redisUrl"))
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const resultKey = `${redisKeyOf(key)}:result`
        const kept = Effect.promise(() =>
          Promise.all([admin.pexpiretime(redisKeyOf(key)), admin.pexpiretime(resultKey)])
        )
        const run = (event: "Finish" | "Error", text: string, timeToLive?: "1 hour" | "2 hours") =>
          Effect.map(
            store.compareAndSet(key, {
              event: ["Queue", "Execute", event],
              timeToLive,
              result: { _tag: "Leave", text }
            }),
            ({ record }) => record
          )
        const reset = store.compareAndSet(key, { event: ["Reset", "FinishReset"] })

        const failed = yield* run("Error", "down", "1 hour")
        const soon = failed.keptUntil?.epochMilliseconds ?? assert.fail()
        assert.deepStrictEqual(yield* kept, [soon, soon])
        assert.deepStrictEqual(yield* Effect.promise(() => admin.hgetall(resultKey)), {
          f: "down",
          fv: `${failed.version}`
        })
        yield* reset
        const completed = yield* run("Finish", "one", "2 hours")
        const later = completed.keptUntil?.epochMilliseconds ?? assert.fail()
        assert.deepStrictEqual(yield* kept, [later, later])
        assert.deepStrictEqual(yield* Effect.promise(() => admin.hgetall(resultKey)), {
          s: "one",
          sv: `${completed.version}`
        })
        yield* reset
        yield* run("Error", "down", "1 hour")
        assert.strictEqual((yield* kept)[1], later)
        yield* reset
        yield* run("Finish", "two")
        assert.deepStrictEqual(yield* kept, [-1, -1])
      }))

    it.effect("is none where the key holds something else, and the next run replaces that", () =>
      Effect.gen(function*() {
        const admin = yield* RedisAdmin.connect(inject("redisUrl"))
        const store = yield* RedisStore.RedisStore
        for (const event of ["Finish", "Error"] as const) {
          const key = yield* freshKey
          const resultKey = `${redisKeyOf(key)}:result`
          yield* store.compareAndSet(key, { event: path })
          yield* Effect.promise(() => admin.rpush(resultKey, "no", "result"))
          assert.deepStrictEqual(yield* store.results(key), {})
          const refused = yield* store.compareAndSet(key, { event: "Queue", result: { _tag: "Get" } })
          assert.deepStrictEqual([refused.changed, refused.results], [false, {}])
          const { record } = yield* store.compareAndSet(key, {
            event: ["Reset", "FinishReset", "Queue", "Execute", event],
            result: { _tag: "Leave", text: "left" }
          })
          const left = { version: record.version, text: "left" }
          assert.deepStrictEqual(yield* store.results(key), event === "Finish" ? { success: left } : { failure: left })
        }
      }))

    it.effect.each<[what: string, fields: Record<string, string>]>([
      ["no version", { s: "text" }],
      ["no text", { sv: "7" }],
      ["a version that is no number", { s: "text", sv: "seven" }],
      ["a version that is empty", { s: "text", sv: "" }]
    ])("is none where the hash has %s", ([, fields]) =>
      Effect.gen(function*() {
        const admin = yield* RedisAdmin.connect(inject("redisUrl"))
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        yield* Effect.promise(() => admin.hset(`${redisKeyOf(key)}:result`, fields))
        assert.deepStrictEqual(yield* store.results(key), {})
      }))
  }
)
