/** Holes 1 to 5 of the reference's protocol, as they are numbered in `flowmachine-facts.md`, seen from a store that shares it. */
import { assert, it } from "@effect/vitest"
import { Array as Arr, Effect, Fiber, Layer, Redacted, Ref, Schedule } from "effect"
import {
  type QueryKey,
  QueryRecord,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStore,
  RedisStoreFlowMachine
} from "effect-query-state"
import { inject } from "vitest"
import {
  driveReference,
  makeReference,
  recordKey,
  StandIn,
  stateKey,
  stored,
  withAdmin
} from "../support/flowMachine.ts"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"

const SharedLayer = Layer.merge(
  RedisStoreFlowMachine.layer({ url: Redacted.make(inject("redisUrl")) }),
  StandIn.layer
)

const options = { excludeTestServices: true, timeout: "30 seconds" } as const

/** The hashes in the order in which the reference writes them, edge by edge. */
const edges = [
  ["QUEUE", "known", "queued"],
  ["EXECUTE", "queued", "executing"],
  ["ERROR", "executing", "errored"],
  ["FINISH", "executing", "completed"],
  ["CANCEL", "queued", "cancelled"],
  ["CANCEL", "executing", "cancelled"],
  ["RESET", "cancelled", "resetting"],
  ["RESET", "errored", "resetting"],
  ["RESET", "completed", "resetting"],
  ["FINISH_RESET", "resetting", "known"]
] as const

it.layer(SharedLayer, options)("Hole 1, a query that begins to execute between two reads", (it) => {
  it.effect.each([{ looks: 0 }, { looks: 1 }, { looks: 2 }, { looks: 3 }])(
    "ends no wait here before it is determinate, if the reference does that after $looks reads",
    ({ looks }) =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const machine = yield* makeReference(key)
        yield* machine.trigger("QUEUE")

        const seen = yield* Ref.make<ReadonlyArray<QueryState.Tag>>([])
        const beforeLook = new Map([[looks, machine.trigger("EXECUTE")], [looks + 3, machine.trigger("FINISH")]])
        const read = (key: QueryKey.QueryKey) =>
          Ref.get(seen).pipe(
            Effect.tap(({ length }) => beforeLook.get(length) ?? Effect.void),
            Effect.andThen(store.read(key)),
            Effect.tap(({ state }) => Ref.update(seen, Arr.append(state._tag)))
          )
        const observed = yield* QueryStateMachine.make(key).pipe(
          Effect.provideService(RedisStore.RedisStore, RedisStore.RedisStore.of({ ...store, read }))
        )
        const { state } = yield* observed.waitUntilComplete({ schedule: Schedule.spaced("1 millis") })
        assert.deepStrictEqual(state, QueryState.completed)
        const queued = Array.from({ length: looks }, () => "Queued" as const)
        // A move of the reference that is seen first is announced, so that a wait may look once more.
        assert.deepStrictEqual(Arr.dedupeAdjacent(yield* Ref.get(seen)), [
          ...Arr.dedupeAdjacent(queued),
          "Executing",
          "Completed"
        ])
      })
  )
})

it.layer(SharedLayer, options)("Hole 2, a machine that a client left half-made", (it) => {
  it.effect("accepts no event in the reference, and every event after this library moved it", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      for (let made = 0; made <= edges.length; made++) {
        const key = yield* freshKey
        yield* withAdmin((admin) =>
          Promise.all([
            admin.setnx(stateKey(key), "known"),
            ...edges.slice(0, made).map(([event, from, to]) =>
              admin.hset(`${stateKey(key)}:QueryEvent.${event}`, from, to)
            )
          ])
        )
        const machine = yield* makeReference(key)
        if (made === 0) assert.deepStrictEqual(yield* machine.trigger("QUEUE"), { state: "known", changed: false })
        assert.deepStrictEqual(yield* store.read(key), QueryRecord.absent(key))
        assert.isTrue((yield* store.compareAndSet(key, { event: "Queue" })).changed)

        const whole = yield* freshKey
        yield* driveReference(yield* makeReference(whole), "Queued")
        assert.deepStrictEqual(yield* stored(key), yield* stored(whole))
        for (const event of ["EXECUTE", "FINISH", "RESET", "FINISH_RESET", "QUEUE", "CANCEL"] as const) {
          assert.isTrue((yield* machine.trigger(event)).changed)
        }
      }
    }))

  it.effect("is repaired in every state, and left alone by a refused event", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* withAdmin((admin) => admin.set(stateKey(key), "executing"))
      assert.isFalse((yield* store.compareAndSet(key, { event: "Queue" })).changed)
      assert.deepStrictEqual(yield* stored(key), [["", "executing", -1]])
      assert.isTrue((yield* store.compareAndSet(key, { event: "Finish" })).changed)
      assert.strictEqual((yield* stored(key)).length, 8)
    }))
})

it.layer(SharedLayer, options)("Hole 3, a state that is missing", (it) => {
  it.effect("is Known here: waits end, a holder gets LeaseLost, and the query can be run again", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      const { version } = yield* driveTo(key, "Executing", { lease: "1 hour" })
      const waiting = yield* Effect.forkChild(query.waitUntilComplete(), { startImmediately: true })
      yield* withAdmin((admin) => admin.del(stateKey(key)))
      assert.deepStrictEqual((yield* Fiber.join(waiting)).state, QueryState.known)
      const record = yield* store.read(key)
      assert.isAbove(record.version, version)
      const late = yield* Effect.flip(store.compareAndSet(key, { event: "Finish", fence: version }))
      assert.deepStrictEqual(errorFields(late), { _tag: "LeaseLost", fence: version, record })
      const run = query.run({ execute: () => Effect.succeed("executed"), result: Effect.succeedSome("fetched") })
      assert.strictEqual(yield* run, "executed")
    }))

  it.effect("is repaired for the reference once this library moves the query", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const machine = yield* makeReference(key)
      yield* withAdmin((admin) =>
        admin.del(
          ...["", ...edges.map(([event]) => `:QueryEvent.${event}`)].map((suffix) => `${stateKey(key)}${suffix}`)
        )
      )
      yield* store.compareAndSet(key, { event: "Queue" })
      assert.deepStrictEqual(yield* machine.trigger("EXECUTE"), { state: "executing", changed: true })
    }))

  it.effect("is not repaired by reads", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* driveTo(key, "Completed")
      yield* withAdmin((admin) => admin.del(stateKey(key)))
      assert.deepStrictEqual((yield* store.read(key)).state, QueryState.known)
      assert.strictEqual(yield* withAdmin((admin) => admin.exists(stateKey(key))), 0)
      // What this library knew of it goes, too.
      assert.isAbove(yield* withAdmin((admin) => admin.pttl(recordKey(key))), 0)
    }))
})

it.layer(SharedLayer, options)("Hole 4, a late finish of a run that was cancelled and reset", (it) => {
  it.effect("gets LeaseLost from this library, and the run of the reference is unaffected", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const machine = yield* makeReference(key)
      const { version: fence } = yield* driveTo(key, "Executing", { holder: "A", lease: "1 hour" })
      // There is no read in between.
      for (const event of ["CANCEL", "RESET", "FINISH_RESET", "QUEUE", "EXECUTE"] as const) {
        yield* machine.trigger(event)
      }
      const late = yield* Effect.flip(store.compareAndSet(key, { event: "Finish", fence }))
      assert.deepStrictEqual(errorFields(late), { _tag: "LeaseLost", fence, record: yield* store.read(key) })
      assert.deepStrictEqual(yield* machine.trigger("FINISH"), { state: "completed", changed: true })
    }))

  it.effect("by the reference completes the run of this library, whose holder gets LeaseLost", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const late = yield* makeReference(key)
      yield* driveReference(late, "Executing")
      for (const event of ["Cancel", "Reset", "FinishReset", "Queue"] as const) {
        yield* store.compareAndSet(key, { event })
      }
      const { record: { version: fence } } = yield* store.compareAndSet(key, { event: "Execute", lease: "1 hour" })
      assert.deepStrictEqual(yield* late.trigger("FINISH"), { state: "completed", changed: true })
      const error = yield* Effect.flip(store.compareAndSet(key, { event: "Finish", fence }))
      const record = yield* store.read(key)
      assert.deepStrictEqual(errorFields(error), { _tag: "LeaseLost", fence, record })
      assert.deepStrictEqual(record.state, QueryState.completed)
    }))
})

it.layer(SharedLayer, options)("Hole 5, a query whose holder is gone", (it) => {
  it.effect("executes no longer than its lease after a holder of this library, and then the reference can run it", () =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      const machine = yield* makeReference(key)
      yield* driveTo(key, "Executing", { holder: "worker 1", lease: "50 millis" })
      const { state } = yield* query.waitUntilComplete()
      assert.deepStrictEqual(state, QueryState.make("Errored", { reason: Reason.leaseExpired("worker 1") }))
      const answers = yield* Effect.forEach(["RESET", "FINISH_RESET", "QUEUE", "EXECUTE"] as const, machine.trigger)
      assert.isTrue(answers.every(({ changed }) => changed))
    }))

  it.effect("executes without a lease after a holder of the reference, until it is cancelled", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      const machine = yield* makeReference(key)
      // What was claimed here before does not count.
      yield* driveTo(key, "Queued", { lease: "20 millis" })
      yield* machine.trigger("EXECUTE")
      const record = yield* store.read(key)
      assert.deepStrictEqual(record.state, QueryState.make("Executing"))
      const renewal = yield* Effect.flip(store.renew(key, record.version, "1 millis"))
      assert.deepStrictEqual(errorFields(renewal), { _tag: "LeaseLost", fence: record.version, record })
      const error = yield* Effect.flip(query.waitUntilComplete({ timeout: "100 millis" }))
      assert.deepStrictEqual(error._tag === "StillPending" && error.record, record)
      assert.deepStrictEqual(yield* query.cancel, {
        state: QueryState.make("Cancelled", { reason: Reason.requested() }),
        changed: true
      })
      assert.strictEqual(yield* machine.currentState, "cancelled")
    }))
})
