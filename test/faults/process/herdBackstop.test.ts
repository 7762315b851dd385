import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Schedule } from "effect"
import { QueryError, QueryStateMachine, RedisStoreFaults, RedisStoreLive } from "effect-query-state"
import { driveTo, freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"
import * as ServerStats from "../../support/ServerStats.ts"

const waiters = 1_000

/** The backstop, ten times as often. */
const schedule = Schedule.jittered(Schedule.spaced("3 seconds"))

it.live("1,000 waiters of one query without notifications share their backstop reads", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    yield* Effect.gen(function*() {
      const { injectNotifications } = yield* RedisStoreFaults.RedisStoreFaults
      yield* injectNotifications(() => [])
      const key = yield* freshKey
      yield* driveTo(key, "Executing")
      const query = yield* QueryStateMachine.make(key)
      const waits = yield* Effect.replicateEffect(Effect.forkChild(query.waitUntilComplete({ schedule })), waiters)
      yield* Effect.repeat(ServerStats.channels(admin), { until: ({ size }) => size === 1 })

      const before = yield* ServerStats.scripts(admin)
      yield* query.finish
      const ends = yield* Fiber.joinAll(waits)
      const record = yield* query.record
      assert.deepStrictEqual(ends, Array.from(ends, () => record))
      assert.isAtMost((yield* ServerStats.scripts(admin)) - before, 50)
    }).pipe(Effect.provide(RedisStoreFaults.layer(RedisStoreLive.layer({ url: Redacted.make(url) }))))
  }))

it.live("1,000 waiters of one pending query count a read by one as a read by all", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    yield* Effect.gen(function*() {
      const key = yield* freshKey
      const record = yield* driveTo(key, "Executing")
      const query = yield* QueryStateMachine.make(key)
      const threeLooks = Schedule.jittered(Schedule.spaced("1 second")).pipe(Schedule.upTo({ times: 3 }))
      const before = yield* ServerStats.scripts(admin)
      const ends = yield* Effect.replicateEffect(
        Effect.flip(query.waitUntilComplete({ schedule: threeLooks })),
        waiters,
        { concurrency: "unbounded" }
      )
      // Each has waited by its own schedule, whichever wait read.
      assert.deepStrictEqual(ends, Array.from(ends, () => new QueryError.StillPending({ record })))
      assert.isAtMost((yield* ServerStats.scripts(admin)) - before, 50)
    }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })))
  }))
