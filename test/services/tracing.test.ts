/** The spans of what is done with a query, and how they hang together across processes. */
import { assert, it } from "@effect/vitest"
import { Cause, Effect, Fiber, Latch, type Layer, Redacted, Tracer } from "effect"
import {
  QueryFleet,
  QueryStateMachine,
  RedisStore,
  RedisStoreError,
  RedisStoreFaults,
  RedisStoreLive,
  RedisStoreMemory
} from "effect-query-state"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { driveTo, freshKey } from "../support/queries.ts"
import { make, parentOf } from "./Spans.ts"

const stores: ReadonlyArray<readonly [name: string, layer: Layer.Layer<RedisStore.RedisStore, unknown>]> = [
  ["memory", RedisStoreMemory.layer],
  ["Redis", RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")), prefix: `tracing-${randomUUID()}` })]
]

for (const [name, layer] of stores) {
  it.live(`${name}: the span of a wait is linked to that of its run`, () =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      // As in two processes with separate traces.
      const there = make()
      const here = make()
      const isWaitedFor = yield* Latch.make()
      const run = yield* query.run({
        execute: () => isWaitedFor.await,
        result: Effect.die("it was run here")
      }).pipe(Effect.provide(there.layer), Effect.forkChild)
      yield* Effect.repeat(query.isExecuting, { until: (isExecuting) => isExecuting })
      const wait = yield* query.waitUntilComplete().pipe(Effect.provide(here.layer), Effect.forkChild)
      yield* isWaitedFor.open
      yield* Fiber.join(run)
      const { version } = yield* Fiber.join(wait)

      const { spanId, traceId } = there.one("QueryStateMachine.run")
      const links = here.one("QueryStateMachine.waitUntilComplete").links.map(({ attributes, span }) => ({
        spanId: span.spanId,
        traceId: span.traceId,
        attributes
      }))
      assert.deepStrictEqual(links, [{ spanId, traceId, attributes: { "query_state.version": version } }])
    }).pipe(Effect.provide(layer)))
}

it.effect("a run is one span with its operations as child spans", () =>
  Effect.gen(function*() {
    const key = yield* freshKey
    const query = yield* QueryStateMachine.make(key)
    const { all, layer, one } = make()
    yield* query.run({
      execute: () => Effect.withSpan(Effect.void, "work"),
      result: Effect.succeedSome(undefined)
    }).pipe(Effect.provide(layer))

    const run = one("QueryStateMachine.run")
    assert.strictEqual(parentOf(one("work")), run.spanId)
    assert.deepStrictEqual(
      all.filter(({ name }) => name === "QueryStateMachine.trigger").map((span) => Object.fromEntries(span.attributes)),
      [["Queue, Execute", "Executing"], ["Finish", "Completed"]].map(([event, state]) => ({
        "query_state.db": key.db,
        "query_state.query": key.query,
        "query_state.event": event,
        "query_state.changed": true,
        "query_state.state": state
      }))
    )
    assert.isTrue(all.every(({ status }) => status._tag === "Ended"))
    assert.strictEqual(
      (yield* query.record).traceparent,
      `00-${run.traceId.padStart(32, "0")}-${run.spanId}-01`
    )
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("a wait that ends before the query is linked to the run as well", () =>
  Effect.gen(function*() {
    const query = yield* QueryStateMachine.make(yield* freshKey)
    const { layer, one } = make()
    yield* query.enqueue
    yield* Effect.gen(function*() {
      yield* Effect.forkChild(query.withExecution(() => Effect.never), { startImmediately: true })
      yield* Effect.flip(query.waitUntilComplete({ timeout: 0 }))
    }).pipe(Effect.provide(layer))
    assert.deepStrictEqual(
      one("QueryStateMachine.waitUntilComplete").links.map(({ span }) => span.spanId),
      [one("QueryStateMachine.withExecution").spanId]
    )
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("many transitions at once are one span, and their claims carry the span around it", () =>
  Effect.gen(function*() {
    const fleet = yield* QueryFleet.make
    const keys = yield* Effect.all([freshKey, freshKey])
    const { layer, one } = make()
    yield* fleet.triggerMany("Queue", keys, { lease: "1 hour" }).pipe(Effect.withSpan("caller"), Effect.provide(layer))
    assert.deepStrictEqual(Object.fromEntries(one("QueryFleet.triggerMany").attributes), {
      "query_state.count": 2,
      "query_state.failed": 0
    })
    const records = yield* fleet.readMany(keys)
    for (const record of records) {
      assert.include((yield* Effect.fromResult(record)).traceparent, one("caller").spanId)
    }
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("a tracer with ids outside W3C Trace Context fails no transition", () =>
  Effect.gen(function*() {
    const query = yield* QueryStateMachine.make(yield* freshKey)
    const fleet = yield* QueryFleet.make
    // As vendors have them: decimal, or in upper case.
    for (const spanId of ["8448574316423912007", "7A085853722DC6D2", "7"]) {
      const tracer = Tracer.make({
        span: (options) =>
          Object.defineProperties(new Tracer.NativeSpan(options), {
            traceId: { value: "9208775921137911520" },
            spanId: { value: spanId }
          })
      })
      yield* query.run({
        execute: () => Effect.void,
        result: Effect.succeedSome(undefined)
      }).pipe(Effect.withSpan("caller"), Effect.provideService(Tracer.Tracer, tracer))
      const [reset] = yield* fleet.triggerMany("Reset", [query.key]).pipe(
        Effect.withSpan("caller"),
        Effect.provideService(Tracer.Tracer, tracer)
      )
      assert.isTrue(reset?._tag === "Success" && reset.success.changed)
      yield* query.finishResetting
    }
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("without a tracer no span is recorded", () =>
  Effect.gen(function*() {
    const key = yield* freshKey
    const record = yield* Effect.withSpan(driveTo(key, "Executing", { lease: "1 hour" }), "caller")
    assert.isUndefined(record.traceparent)
    const query = yield* QueryStateMachine.make(yield* freshKey)
    yield* Effect.withSpan(query.run({ execute: () => Effect.void, result: Effect.succeedSome(undefined) }), "caller")
    assert.isUndefined((yield* query.record).traceparent)
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("a failed span names the kind of its error, and an interrupted one none", () =>
  Effect.gen(function*() {
    const typesOf = Effect.fnUntraced(function*<E>(
      use: (query: QueryStateMachine.QueryStateMachine) => Effect.Effect<unknown, E>
    ) {
      const query = yield* QueryStateMachine.make(yield* freshKey)
      yield* query.enqueue
      const { all, layer } = make()
      yield* use(query).pipe(Effect.exit, Effect.provide(layer))
      return all.map(({ attributes, name }) => [name.replace("QueryStateMachine.", ""), attributes.get("error.type")])
    })
    assert.deepStrictEqual(
      yield* typesOf((query) => query.waitUntilComplete({ timeout: 0 })),
      [["waitUntilComplete", "StillPending"]]
    )
    assert.deepStrictEqual(yield* typesOf((query) => query.trigger("Execute", { fence: 2 })), [[
      "trigger",
      "LeaseLost"
    ]])
    // Of an error of the store, its reason says more.
    assert.deepStrictEqual(
      yield* typesOf((query) => query.trigger("Execute", { holder: "" })),
      [["trigger", "InvalidInput"]]
    )
    const recorded = [["trigger", undefined], ["trigger", undefined]]
    assert.deepStrictEqual(
      yield* typesOf((query) => query.withExecution(() => new Cause.TimeoutError())),
      [["withExecution", "TimeoutError"], ...recorded]
    )
    assert.deepStrictEqual(
      yield* typesOf((query) => query.withExecution(() => Effect.die(new RangeError()))),
      [["withExecution", "RangeError"], ...recorded]
    )
    assert.deepStrictEqual(
      yield* typesOf((query) => query.withExecution(() => Effect.interrupt)),
      [["withExecution", undefined], ...recorded]
    )
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("many transitions at once say how many of them failed", () =>
  Effect.gen(function*() {
    const faults = yield* RedisStoreFaults.RedisStoreFaults
    const fleet = yield* QueryFleet.make
    const keys = yield* Effect.all([freshKey, freshKey, freshKey])
    yield* faults.inject(({ key }) =>
      key === keys[0] ? undefined : { _tag: "Fail", reason: new RedisStoreError.ConnectionLost({}) }
    )
    const { layer, one } = make()
    yield* fleet.triggerMany("Queue", keys).pipe(Effect.provide(layer))
    assert.strictEqual(one("QueryFleet.triggerMany").attributes.get("query_state.failed"), 2)
  }).pipe(Effect.provide(RedisStoreFaults.layer(RedisStoreMemory.layer))))

it.effect("spans of the Redis client are children of its transition", () =>
  Effect.gen(function*() {
    const { layer, one } = make()
    const store = yield* RedisStore.RedisStore
    const query = yield* QueryStateMachine.make(yield* freshKey).pipe(
      Effect.provideService(RedisStore.RedisStore, {
        ...store,
        compareAndSet: (...args: Parameters<typeof store.compareAndSet>) =>
          Effect.withSpan(store.compareAndSet(...args), "EVALSHA")
      })
    )
    yield* Effect.provide(query.enqueue, layer)
    assert.strictEqual(parentOf(one("EVALSHA")), one("QueryStateMachine.trigger").spanId)
  }).pipe(Effect.provide(RedisStoreMemory.layer)))
