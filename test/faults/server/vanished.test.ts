/** Records that vanish under their waiters and holders, in each pending state. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Result, Schedule } from "effect"
import { QueryRecord, QueryState, QueryStateMachine, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import { driveTo, errorFields, freshKey, redisKeyOf } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"

type Query = QueryStateMachine.QueryStateMachine

const ways: ReadonlyArray<{
  readonly how: string
  readonly remove: (admin: Redis, redisKeys: ReadonlyArray<string>) => Promise<unknown>
}> = [
  { how: "deleted", remove: (admin, redisKeys) => admin.del(...redisKeys) },
  {
    how: "expired",
    remove: (admin, redisKeys) => Promise.all(redisKeys.map((redisKey) => admin.pexpire(redisKey, 1)))
  },
  {
    how: "evicted",
    // Less than the server needs for itself: it evicts all there is.
    remove: async (admin) => {
      await admin.config("SET", "maxmemory-policy", "allkeys-random", "maxmemory", "500kb")
      await admin.config("SET", "maxmemory", "0")
    }
  },
  { how: "flushed with all others", remove: (admin) => admin.flushall() }
]

const lease = "900 millis"

/** Holds a query in a state while the claim is renewed, and returns how that ended. */
const holders: ReadonlyArray<{
  readonly tag: "Queued" | "Executing" | "Resetting"
  readonly before: QueryState.Tag
  readonly hold: (query: Query) => Effect.Effect<unknown, unknown>
}> = [
  {
    tag: "Queued",
    before: "Known",
    // The plain way: a claim, and the next step with its fence when its turn has come.
    hold: (query) =>
      Effect.gen(function*() {
        const { state } = yield* query.trigger("Queue", { holder: "worker 1", lease: "1 hour" })
        const fence = QueryState.claimOf(state)?.fence
        yield* Effect.repeat(Effect.delay(query.currentState, 10), { until: ({ _tag }) => _tag !== "Queued" })
        // While memory is short, nothing is claimed.
        return yield* Effect.retry(query.trigger("Execute", { fence }), {
          schedule: Schedule.spaced("10 millis"),
          while: (error) => error._tag === "RedisStoreError" && error.reason._tag === "OutOfMemory"
        })
      })
  },
  { tag: "Executing", before: "Queued", hold: (query) => query.withExecution(() => Effect.never, { lease }) },
  { tag: "Resetting", before: "Completed", hold: (query) => query.withReset(() => Effect.never, { lease }) }
]

it.live.each(ways)(
  "when records are $how, waits end and holders get LeaseLost",
  ({ remove }) =>
    Effect.gen(function*() {
      const { url } = yield* RedisServer.acquire()
      const admin = yield* RedisAdmin.connect(url)
      yield* Effect.gen(function*() {
        const held = yield* Effect.forEach(holders, ({ before, hold, tag }) =>
          Effect.gen(function*() {
            const key = yield* freshKey
            yield* driveTo(key, before)
            const query = yield* QueryStateMachine.make(key)
            const holder = yield* Effect.forkChild(Effect.result(hold(query)))
            const record = yield* Effect.repeat(query.record, { until: ({ state }) => state._tag === tag })
            const schedule = Schedule.spaced("20 millis")
            const waiter = yield* Effect.forkChild(query.waitUntilComplete({ schedule }), { startImmediately: true })
            return { key, holder, record, waiter }
          }))
        yield* Effect.promise(() => remove(admin, held.map(({ key }) => redisKeyOf(key))))
        for (const { holder, key, record, waiter } of held) {
          assert.deepStrictEqual(yield* Fiber.join(waiter), QueryRecord.absent(key))
          const end = yield* Fiber.join(holder)
          assert.deepStrictEqual<unknown>(
            Result.mapError(end, (error) => errorFields(error as Parameters<typeof errorFields>[0])),
            Result.fail({ _tag: "LeaseLost", fence: record.version, record: QueryRecord.absent(key) })
          )
        }
      }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })))
    })
)
