/** Records and histories as a newer version of this library might write them: what is unknown degrades, the rest is read. */
import { assert, it } from "@effect/vitest"
import { DateTime, Effect, Redacted, Stream } from "effect"
import { type QueryKey, QueryState, QueryStateMachine, Reason, RedisStore, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import { inject } from "vitest"
import { freshKey } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")), history: { length: 10 } })

const nameOf = ({ db, query }: QueryKey.QueryKey) => `query-state:{${db}:${query}}`

const withAdmin = <A>(f: (admin: Redis) => Promise<A>) =>
  Effect.scoped(Effect.flatMap(RedisAdmin.connect(inject("redisUrl")), (admin) => Effect.promise(() => f(admin))))

const version = 1_700_000_000_000_000
const v = `${version}`
const changedAt = DateTime.makeUnsafe(version / 1000)

const newReasons: ReadonlyArray<readonly [what: string, reason: object]> = [
  ["of an unknown tag", { _tag: "Preempted", by: "scheduler" }],
  ["with a longer text", { _tag: "Failed", error: "SqlError", message: "x".repeat(20_000) }],
  ["with a field of another type", { _tag: "Failed", error: { code: 3 }, message: "deadlock" }]
]

it.layer(StoreLayer, { excludeTestServices: true, timeout: "30 seconds" })("What a newer version wrote", (it) => {
  it.effect.each(newReasons)(
    "a reason %s is Unrecorded, and the record is read and moved",
    ([, reason]) =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        yield* withAdmin((admin) => admin.hset(nameOf(key), { s: "errored", v, r: JSON.stringify(reason) }))
        const record = {
          key,
          state: QueryState.make("Errored", { reason: Reason.unrecorded }),
          version,
          attempts: 0,
          changedAt
        }
        assert.deepStrictEqual(yield* store.read(key), record)
        assert.deepStrictEqual(yield* query.waitUntilComplete(), record)
        assert.deepStrictEqual(yield* Stream.runHead(query.changes), yield* Effect.succeedSome(record))
        assert.isFalse((yield* store.compareAndSet(key, { event: "Finish" })).changed)
        assert.isTrue((yield* store.compareAndSet(key, { event: "Reset" })).changed)
      })
  )

  it.effect("unknown entries of a history are left out, and the others are read", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* store.compareAndSet(key, { event: "Queue" })
      const at = ["v", v, "t", `${version / 1000}`, "f", "queued"]
      const entries = [
        ["s", "paused", ...at, "e", "pause"],
        ["s", "executing", ...at, "e", "resume"],
        ["s", "errored", ...at, "e", "error", "r", `{"_tag":"Preempted"}`],
        ["kind", "note", "text", "x".repeat(20_000)]
      ]
      for (const entry of entries) {
        yield* withAdmin((admin) => admin.xadd(`${nameOf(key)}:history`, "*", ...entry))
      }
      yield* store.compareAndSet(key, { event: "Execute" })
      assert.deepStrictEqual((yield* store.history(key)).map(({ event }) => event), ["Queue", "Execute"])
    }))

  it.effect("no message about a record that cannot be read advises to delete it", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      for (const fields of [{ s: "paused", v }, { s: "queued", v: "soon" }, { s: "completed", v, x: "1" }]) {
        const key = yield* freshKey
        yield* withAdmin((admin) => admin.hset(nameOf(key), fields))
        const { message } = yield* Effect.flip(store.read(key))
        assert.include(message, nameOf(key))
        assert.include(message, "update this process")
        assert.notMatch(message, /delete|remove/i)
      }
    }))
})
