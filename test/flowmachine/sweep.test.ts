/** A sweep ends lapsed claims, although nothing else here looks at their queries. */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Layer, Redacted, Result, Schedule, Scope } from "effect"
import { QueryKey, QueryState, RedisStore, RedisStoreError, RedisStoreFlowMachine } from "effect-query-state"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { makeReference, StandIn, stateKey, withAdmin } from "../support/flowMachine.ts"
import { driveTo } from "../support/queries.ts"

const SharedLayer = Layer.merge(
  RedisStoreFlowMachine.layer({ url: Redacted.make(inject("redisUrl")) }),
  StandIn.layer
)

const queriesOf = (db: string, count: number) =>
  Array.from({ length: count }, (_, index) => QueryKey.makeUnsafe({ db, query: `query ${index}` }))

const timedOut = new RedisStoreError.RedisStoreError({
  operation: "read",
  reason: new RedisStoreError.TimedOut({ after: 5000 })
})

const schedule = Schedule.spaced("20 millis")

it.layer(SharedLayer, { excludeTestServices: true, timeout: "30 seconds" })("A sweep", (it) => {
  it.effect("ends lapsed claims, so that waits of FlowMachine end, and leaves all else as it is", () =>
    Effect.gen(function*() {
      const db = randomUUID()
      const [queued, executing, held, unclaimed] = queriesOf(db, 4)
      if (!queued || !executing || !held || !unclaimed) return assert.fail()
      yield* driveTo(queued, "Queued", { lease: "1 millis" })
      yield* driveTo(executing, "Executing", { holder: "worker 1", lease: "1 millis" })
      const claimed = yield* driveTo(held, "Executing", { holder: "worker 2", lease: "1 hour" })
      yield* driveTo(unclaimed, "Executing")
      const machines = yield* Effect.forEach([queued, executing], makeReference)

      yield* Layer.build(RedisStoreFlowMachine.layerSweep({ db: queued.db, schedule }))
      yield* Effect.forEach(machines, ({ waitUntilComplete }) => waitUntilComplete, { concurrency: "unbounded" })
      assert.deepStrictEqual(
        yield* Effect.forEach(machines, ({ currentState }) => currentState),
        ["cancelled", "errored"]
      )
      const store = yield* RedisStore.RedisStore
      assert.deepStrictEqual(yield* store.read(held), claimed)
      assert.deepStrictEqual((yield* store.read(unclaimed)).state, QueryState.make("Executing"))
    }).pipe(Effect.scoped))

  it.effect("goes on after a failure and past records that cannot be read, and ends with its scope", () =>
    Effect.gen(function*() {
      const db = randomUUID()
      const [odd, first, second] = queriesOf(db, 3)
      if (!odd || !first || !second) return assert.fail()
      yield* withAdmin((admin) => admin.set(stateKey(odd), "paused"))
      const machine = yield* makeReference(first)
      yield* driveTo(first, "Executing", { lease: "1 millis" })

      const scope = yield* Scope.make()
      let reads = 0
      const store = yield* RedisStore.RedisStore
      const counted = RedisStore.RedisStore.of({
        ...store,
        readMany: (keys) => {
          reads += 1
          return reads > 1 ? store.readMany(keys) : Effect.succeed([Result.fail(timedOut)])
        }
      })
      yield* Layer.buildWithScope(RedisStoreFlowMachine.layerSweep({ db: odd.db, schedule }), scope).pipe(
        Effect.provideService(RedisStore.RedisStore, counted)
      )
      yield* machine.waitUntilComplete
      yield* Scope.close(scope, Exit.void)

      const ended = reads
      yield* driveTo(second, "Executing", { lease: "1 millis" })
      yield* Layer.build(RedisStoreFlowMachine.layerSweep({ db: odd.db, schedule }))
      yield* Effect.flatMap(makeReference(second), ({ waitUntilComplete }) => waitUntilComplete)
      assert.strictEqual(reads, ended)
    }).pipe(Effect.scoped))

  it.effect("of a database whose id holds a colon is refused", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Layer.build(RedisStoreFlowMachine.layerSweep({ db: QueryKey.DbId.make("a:b") }))
      )
      assert.include(error.message, `Could not configure the sweep: invalid input`)
    }).pipe(Effect.scoped))
})
