/** Records whose versions and times are at the limits, and records with a lease in a state that takes none. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted, Result, Schedule, Stream } from "effect"
import { QueryEvent, type QueryKey, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import { inject } from "vitest"
import { freshKey } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"

const limit = 8_640_000_000_000_000
const v = "1700000000000000"

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")), history: { length: 100 } })

type Fields = Readonly<Record<string, string>>

const nameOf = ({ db, query }: QueryKey.QueryKey) => `query-state:{${db}:${query}}`

const withAdmin = <A>(f: (admin: Redis) => Promise<A>) =>
  Effect.scoped(Effect.flatMap(RedisAdmin.connect(inject("redisUrl")), (admin) => Effect.promise(() => f(admin))))

const put = (key: QueryKey.QueryKey, fields: Fields) =>
  withAdmin(async (admin) => {
    await admin.del(nameOf(key), `${nameOf(key)}:history`)
    await admin.hset(nameOf(key), fields)
  })

const stored = (key: QueryKey.QueryKey) => withAdmin((admin) => admin.hgetall(nameOf(key)))

/** All operations on one query, each with the fence of a claim that may be on it. */
const operationsOn = (key: QueryKey.QueryKey, fence: number) =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const query = yield* QueryStateMachine.make(key)
    const execute = () => Effect.void
    const options = {
      timeout: "200 millis",
      recover: () => true,
      execute,
      result: Effect.succeedSome(undefined)
    } as const
    return {
      read: store.read(key),
      renew: store.renew(key, fence, "1 minute"),
      history: store.history(key),
      change: Effect.forEach(QueryEvent.all, (event) => store.compareAndSet(key, { event })),
      path: store.compareAndSet(key, { event: ["Reset", "FinishReset", "Queue", "Execute"] }),
      fenced: Effect.forEach(QueryEvent.all, (event) => store.compareAndSet(key, { event, fence })),
      run: query.run(options),
      withExecution: query.withExecution(execute),
      withReset: query.withReset(execute),
      wait: query.waitUntilComplete({ timeout: "200 millis" }),
      waitBySchedule: query.waitUntilComplete({ schedule: Schedule.recurs(1) }),
      changes: Stream.runDrain(Stream.take(query.changes, 1))
    }
  })

const failureOf = (result: Result.Result<unknown, unknown>) =>
  Result.isFailure(result) ? result.failure as { readonly _tag: string; readonly message: string } : undefined

const pending = ["queued", "executing", "resetting"]
const resting = ["known", "completed", "errored", "cancelled", "reset_failed"]
const states = [...pending, ...resting]

const unreadable: ReadonlyArray<readonly [what: string, fields: Fields]> = [
  ...states.map((s) => [`${s}, with a version above the limit`, { s, v: `${limit + 1}` }] as const),
  ...states.map((s) => [`${s}, changed after the limit`, { s, v, t: `${limit + 1}` }] as const),
  ...pending.map((s) => [`${s}, with a lease beyond the limit`, { s, v, x: `${limit + 1}` }] as const),
  ...resting.flatMap((s) => [
    [`${s}, with a lease that is over`, { s, v, x: "1" }] as const,
    [`${s}, with a lease`, { s, v, x: `${limit}` }] as const
  ])
]

it.layer(StoreLayer, { excludeTestServices: true, timeout: "30 seconds" })("A record at the limits", (it) => {
  it.effect.each(unreadable)(
    "%s gives InvalidRecord with its Redis key to all",
    ([, fields]) =>
      Effect.gen(function*() {
        const key = yield* freshKey
        yield* put(key, fields)
        for (const [name, operation] of Object.entries(yield* operationsOn(key, Number(fields["v"])))) {
          const error = failureOf(yield* Effect.result(operation as Effect.Effect<unknown, unknown>))
          assert.strictEqual(error?._tag, "RedisStoreError", name)
          assert.include(error?.message, `the record in the Redis key ${nameOf(key)} cannot be read`, name)
          assert.deepStrictEqual(yield* stored(key), fields, name)
        }
      })
  )

  it.effect.each(states.map((s) => [s] as const))(
    "%s, with the last version, is read, and nothing moves it",
    ([s]) =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const fields = { s, v: `${limit}`, t: `${limit}` }
        yield* put(key, fields)
        assert.strictEqual((yield* store.read(key)).version, limit)
        for (const [name, operation] of Object.entries(yield* operationsOn(key, limit))) {
          const error = failureOf(yield* Effect.result(operation as Effect.Effect<unknown, unknown>))
          if (error?._tag === "RedisStoreError") {
            assert.include(error.message, `the record in the Redis key ${nameOf(key)} cannot`, name)
          }
          const { x: _x, ...kept } = yield* stored(key)
          assert.deepStrictEqual(kept, fields, name)
          yield* put(key, fields)
        }
      })
  )

  it.effect.each(pending.map((s) => [s] as const))(
    "%s, with the last version and a lease that is over, gives InvalidRecord to all",
    ([s]) =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const fields = { s, v: `${limit}`, x: "1" }
        yield* put(key, fields)
        for (const [name, operation] of Object.entries(yield* operationsOn(key, limit))) {
          const error = failureOf(yield* Effect.result(operation as Effect.Effect<unknown, unknown>))
          assert.include(error?.message, `the record in the Redis key ${nameOf(key)} cannot`, name)
          assert.deepStrictEqual(yield* stored(key), fields, name)
        }
      })
  )

  it.effect("moves up to the limit, and a path that crosses it changes nothing", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const fields = { s: "known", v: `${limit - 1}` }
      yield* put(key, fields)
      const error = failureOf(yield* Effect.result(store.compareAndSet(key, { event: ["Queue", "Execute"] })))
      assert.include(error?.message, nameOf(key))
      assert.deepStrictEqual(yield* stored(key), fields)
      assert.deepStrictEqual(yield* store.history(key), [])

      const { changed, record } = yield* store.compareAndSet(key, { event: "Queue" })
      assert.deepStrictEqual([changed, record.version], [true, limit])
      assert.deepStrictEqual(yield* store.read(key), record)
      assert.include((yield* Effect.flip(store.compareAndSet(key, { event: "Execute" }))).message, nameOf(key))
      assert.deepStrictEqual((yield* store.history(key)).map(({ version }) => version), [limit])
    }))

  it.effect("settles a lapsed lease with the last version, though the path finds none", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* put(key, { s: "executing", v: `${limit - 1}`, x: "1" })
      const error = failureOf(yield* Effect.result(store.compareAndSet(key, { event: "Reset" })))
      assert.include(error?.message, nameOf(key))
      const { state, version } = yield* store.read(key)
      assert.deepStrictEqual([state._tag, version], ["Errored", limit])
    }))
})
