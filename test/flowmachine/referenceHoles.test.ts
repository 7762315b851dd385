/** Holes in the reference's protocol, by their numbers in `flowmachine-facts.md`, each beside the same steps here. */
import { assert, it } from "@effect/vitest"
import { Array as Arr, Deferred, Effect, Redacted, Ref, Schedule } from "effect"
import { QueryKey, QueryState, QueryStateMachine, Reason, RedisStore, RedisStoreLive } from "effect-query-state"
import { inject } from "vitest"
import { errorFields, freshKey } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as ReferenceMachine from "../support/ReferenceMachine.ts"
import * as WorkerProcess from "../support/WorkerProcess.ts"

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) })

const makeReference = Effect.fnUntraced(function*(key: QueryKey.QueryKey) {
  return yield* ReferenceMachine.make(yield* RedisAdmin.connect(inject("redisUrl")), key)
})

it.layer(StoreLayer, { excludeTestServices: true })(
  "Hole 1, a query that begins to execute between two reads",
  (it) => {
    it.effect("ends the wait of the reference while it executes", () =>
      Effect.gen(function*() {
        const machine = yield* Effect.flatMap(freshKey, makeReference)
        yield* machine.trigger("QUEUE")
        yield* machine.waitUntilComplete(1, (looks) => looks === 1 ? machine.trigger("EXECUTE") : Effect.void)
        assert.strictEqual(yield* machine.currentState, "executing")
      }))

    it.effect.each([{ looks: 0 }, { looks: 1 }, { looks: 2 }, { looks: 3 }])(
      "ends no wait here before it is determinate, if that is after $looks reads",
      ({ looks }) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const query = yield* QueryStateMachine.make(yield* freshKey)
          yield* query.enqueue

          const seen = yield* Ref.make<ReadonlyArray<QueryState.Tag>>([])
          const beforeLook = new Map([[looks, query.execute], [looks + 3, query.finish]])
          const read = (key: QueryKey.QueryKey) =>
            Ref.get(seen).pipe(
              Effect.tap(({ length }) => beforeLook.get(length) ?? Effect.void),
              Effect.andThen(store.read(key)),
              Effect.tap(({ state }) => Ref.update(seen, Arr.append(state._tag)))
            )
          const observed = yield* QueryStateMachine.make(query.key).pipe(
            Effect.provideService(RedisStore.RedisStore, RedisStore.RedisStore.of({ ...store, read }))
          )
          const { state } = yield* observed.waitUntilComplete({ schedule: Schedule.spaced("1 millis") })

          assert.deepStrictEqual(state, QueryState.completed)
          const queued = Array.from({ length: looks }, () => "Queued" as const)
          assert.deepStrictEqual(yield* Ref.get(seen), [...queued, "Executing", "Executing", "Executing", "Completed"])
        })
    )
  }
)

it.layer(StoreLayer, { excludeTestServices: true })(
  "Hole 4, a late finish of a run that was cancelled and reset",
  (it) => {
    it.effect("completes the next run in the reference, and its holder is answered that it did not", () =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const [a, b, c] = yield* Effect.all([makeReference(key), makeReference(key), makeReference(key)])
        const steps = [
          [a, "QUEUE"],
          [a, "EXECUTE"],
          [b, "CANCEL"],
          [b, "RESET"],
          [b, "FINISH_RESET"],
          [c, "QUEUE"],
          [c, "EXECUTE"],
          [a, "FINISH"],
          [c, "FINISH"]
        ] as const
        const answers = yield* Effect.forEach(steps, ([machine, event]) => machine.trigger(event))
        assert.deepStrictEqual(answers.slice(-3), [
          { state: "executing", changed: true },
          { state: "completed", changed: true },
          { state: "completed", changed: false }
        ])
      }))

    it.effect("gets LeaseLost here, and the next run is completed by its own holder", () =>
      Effect.gen(function*() {
        const key = yield* freshKey
        const query = yield* QueryStateMachine.make(key)
        const executeAs = (holder: string) =>
          Effect.map(
            Effect.andThen(query.enqueue, query.trigger("Execute", { holder, lease: "1 hour" })),
            ({ state }) => QueryState.claimOf(state) ?? assert.fail("it is not claimed")
          )

        const a = yield* executeAs("A")
        yield* query.cancel
        yield* query.reset
        yield* query.finishResetting
        const c = yield* executeAs("C")
        const record = yield* query.record
        const error = yield* Effect.flip(query.trigger("Finish", { fence: a.fence }))
        assert.deepStrictEqual(error._tag === "LeaseLost" && errorFields(error), {
          _tag: "LeaseLost",
          fence: a.fence,
          record
        })
        assert.deepStrictEqual(yield* query.record, record)
        assert.deepStrictEqual(yield* query.trigger("Finish", { fence: c.fence }), {
          state: QueryState.completed,
          changed: true
        })
      }))
  }
)

it.layer(StoreLayer, { excludeTestServices: true })("Hole 5, a query whose holder is killed", (it) => {
  /** Has a process execute a query, and killed meanwhile; answers with what it called itself. */
  const killExecuting = Effect.fnUntraced(function*(by: "reference" | "executing", key: QueryKey.QueryKey) {
    const { holder, kill, reached, start } = yield* WorkerProcess.spawn(inject("redisUrl"))
    yield* start([{ key, by, leaseMillis: 500, pausesAt: ["in work"] }])
    yield* reached(key, "in work")
    yield* kill
    return holder
  })

  it.effect("executes for ever in the reference", () =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const machine = yield* makeReference(key)
      yield* machine.trigger("QUEUE")
      yield* killExecuting("reference", key)

      const hasLookedForLong = yield* Deferred.make<void>()
      const look = (looks: number) => looks < 300 ? Effect.void : Deferred.succeed(hasLookedForLong, undefined)
      yield* Effect.raceFirst(
        Effect.andThen(machine.waitUntilComplete(1, look), Effect.die("the wait ended")),
        Deferred.await(hasLookedForLong)
      )
      const events = ["QUEUE", "EXECUTE", "RESET", "FINISH_RESET"] as const
      const answers = yield* Effect.forEach(events, (event) => machine.trigger(event))
      assert.deepStrictEqual(answers, Arr.map(events, () => ({ state: "executing", changed: false })))
      // Nor does Redis end it.
      const admin = yield* RedisAdmin.connect(inject("redisUrl"))
      assert.strictEqual(yield* Effect.promise(() => admin.pttl(machine.stateKey)), -1)
    }))

  it.effect("executes here no longer than the lease, and then others can run it", () =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      yield* query.enqueue
      const holder = yield* killExecuting("executing", key)
      const { state } = yield* query.waitUntilComplete({ schedule: Schedule.spaced("1 hour") })
      assert.deepStrictEqual(state, QueryState.make("Errored", { reason: Reason.leaseExpired(holder) }))
      assert.strictEqual(
        yield* query.run({ execute: () => Effect.succeed("executed"), result: Effect.succeedSome("fetched") }),
        "executed"
      )
    }))
})
