/** Ten thousand waits for one query in one process. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Redacted } from "effect"
import { QueryStateMachine, RedisStore, RedisStoreFaults, RedisStoreLive } from "effect-query-state"
import { driveTo, freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"
import * as ServerStats from "../../support/ServerStats.ts"

const waiters = 10_000

it.live(
  "10,000 waiters of one query share one subscription and end without a read, and one wins the next transition",
  () =>
    Effect.gen(function*() {
      const { url } = yield* RedisServer.acquire()
      const admin = yield* RedisAdmin.connect(url)
      yield* Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const { calls } = yield* RedisStoreFaults.RedisStoreFaults
        const key = yield* freshKey
        yield* driveTo(key, "Executing")
        const query = yield* QueryStateMachine.make(key)

        const reads = Effect.map(calls, (calls) => calls.filter(({ operation }) => operation === "read").length)
        const before = yield* reads
        const waits = yield* Effect.replicateEffect(Effect.forkChild(query.waitUntilComplete()), waiters)
        // Each reads, subscribes, and reads again.
        yield* Effect.repeat(Effect.delay(reads, 10), { until: (now) => now - before === 2 * waiters })
        yield* store.read(key)
        assert.deepStrictEqual(Array.from((yield* ServerStats.channels(admin)).values()), [1])
        assert.strictEqual(yield* ServerStats.connections(admin), 1)

        const idle = yield* ServerStats.scripts(admin)
        const { record } = yield* store.compareAndSet(key, { event: "Finish" })
        const woken = yield* Fiber.joinAll(waits)
        const scripts = (yield* ServerStats.scripts(admin)) - idle
        assert.deepStrictEqual(woken, Array.from(woken, () => record))
        // The transition is the only one.
        assert.strictEqual(scripts, 1)
        yield* ServerStats.none(admin)

        const claims = yield* Effect.replicateEffect(query.trigger("Reset", { lease: "1 hour" }), waiters, {
          concurrency: "unbounded"
        })
        assert.strictEqual(claims.filter(({ changed }) => changed).length, 1)
      }).pipe(
        Effect.provide(
          RedisStoreFaults.layer(RedisStoreLive.layer({ url: Redacted.make(url), commandTimeout: "30 seconds" }))
        )
      )
    }),
  { timeout: 60_000 }
)
