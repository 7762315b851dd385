/** Callers without types: whatever they pass, each call fails with a typed error, and never with a defect. */
import { assert, describe, it } from "@effect/vitest"
import { Config, Effect, Inspectable, Layer, Redacted, Result, Schema, type Scope, Stream } from "effect"
import {
  QueryFleet,
  type QueryKey,
  QueryStateMachine,
  RedisStore,
  RedisStoreError,
  RedisStoreFlowMachine,
  RedisStoreLive,
  RedisStoreMemory
} from "effect-query-state"
import { Redis } from "ioredis"
import { inject } from "vitest"
import { freshKey } from "../support/queries.ts"
import * as RedisCluster from "../support/RedisCluster.ts"

/** Passes a value where the types would refuse it. */
const untyped = (value: unknown): never => value as never

/** Passes a value instead of work. */
const notWork = (value: unknown): () => Effect.Effect<void> => value as never

type Member = (query: QueryStateMachine.QueryStateMachine) => Effect.Effect<unknown, unknown>

const work = () => Effect.succeed("result")
const members: Record<string, Member> = {
  enqueue: (query) => query.enqueue,
  trigger: (query) => query.trigger("Finish"),
  record: (query) => query.record,
  isKnown: (query) => query.isKnown,
  history: (query) => query.history,
  changes: (query) => Stream.runHead(query.changes),
  waitUntilComplete: (query) => query.waitUntilComplete(),
  withExecution: (query) => query.withExecution(work),
  withReset: (query) => query.withReset(work),
  run: (query) => query.run({ execute: work, result: Effect.succeedSome("result") })
}

const isStoreError = Schema.is(RedisStoreError.RedisStoreError)

/** The issue of the `InvalidInput` that an effect has to fail with. */
const issueOf = Effect.fnUntraced(function*<A, R>(effect: Effect.Effect<A, unknown, R>) {
  const error = yield* Effect.flip(effect)
  if (!isStoreError(error)) return assert.fail(`not a store error: ${String(error)}`)
  assert.isAtMost(error.message.length, 1000)
  assert.isDefined(JSON.stringify(error))
  return error.reason._tag === "InvalidInput" ? error.reason.issue : assert.fail(error.message)
})

const keys: ReadonlyArray<readonly [name: string, key: unknown]> = [
  ["null", null],
  ["undefined", undefined],
  ["a text", "warehouse/stock"],
  ["an empty object", {}],
  ["an empty db", { db: "", query: "stock" }],
  ["an empty query", { db: "warehouse", query: "" }],
  ["a number as an id", { db: "warehouse", query: 7 }],
  ["a lone surrogate", { db: "ware\ud800house", query: "stock" }],
  ["an id of megabytes", { db: "warehouse", query: "x".repeat(5_000_000) }]
]

const commands: ReadonlyArray<readonly [event: unknown, options: unknown]> = [
  ["Nope", {}],
  ["queue", {}],
  ["toString", {}],
  ["", {}],
  [null, {}],
  [undefined, {}],
  [7, {}],
  ["Queue", { lease: Number.NaN }],
  ["Queue", { lease: -1 }],
  ["Queue", { lease: "soon" }],
  ["Queue", { lease: null }],
  ["Queue", { lease: [] }],
  ["Queue", { lease: Number.POSITIVE_INFINITY }],
  ["Queue", { fence: "x" }],
  ["Queue", { fence: null }],
  ["Queue", { holder: 7 }],
  ["Queue", { holder: null }],
  ["Queue", { holder: "" }],
  ["Queue", { holder: "\ud800" }],
  ["Queue", { traceparent: 7 }],
  ["Finish", { timeToLive: null }],
  ["Finish", { timeToLive: "soon" }],
  ["Finish", { timeToLive: [] }],
  ["Finish", { timeToLive: Number.NaN }],
  ["Cancel", { reason: "because" }],
  ["Cancel", { reason: {} }],
  ["Cancel", { reason: null }]
]

const waits: ReadonlyArray<unknown> = [
  null,
  7,
  { timeout: "soon" },
  { timeout: Number.NaN },
  { timeout: -1 },
  { timeout: null },
  { schedule: 7 },
  { schedule: null }
]

const runs: ReadonlyArray<unknown> = [
  null,
  undefined,
  {},
  { execute: work },
  { execute: Effect.void, result: Effect.succeedSome(undefined) },
  { execute: work, result: work },
  { execute: work, result: Effect.succeedSome(undefined), purge: Effect.void },
  { execute: work, result: Effect.succeedSome(undefined), recover: true },
  { execute: work, result: Effect.succeedSome(undefined), timeout: "soon" },
  { execute: work, result: Effect.succeedSome(undefined), lease: "soon" },
  { execute: work, result: Effect.succeedSome(undefined), holder: 7 }
]

const named = (value: unknown) => JSON.stringify(value, (_, part) => typeof part === "function" ? "function" : part)

const Stores = [
  { name: "memory", StoreLayer: Layer.suspend(() => RedisStoreMemory.layerWith({ history: { length: 3 } })) },
  {
    name: "Redis",
    StoreLayer: Layer.suspend(() => RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) }))
  }
]

describe.each(Stores)("a store in $name", ({ StoreLayer }) => {
  it.layer(Layer.orDie(StoreLayer), { excludeTestServices: true })((it) => {
    it.effect.each(keys)(
      "refuses %s as a key, in each member of the machine and the fleet",
      ([, value]) =>
        Effect.gen(function*() {
          const key: QueryKey.QueryKey = untyped(value)
          const query = yield* QueryStateMachine.make(key)
          for (const member of Object.values(members)) {
            const issue = yield* issueOf(Effect.suspend(() => member(query)))
            assert.match(issue, /^(a query key|the id)/)
          }
          const fleet = yield* QueryFleet.make
          const results: ReadonlyArray<Result.Result<unknown, unknown>> = [
            ...(yield* fleet.readMany([key])),
            ...(yield* fleet.triggerMany("Queue", [key])),
            ...(yield* fleet.waitAllCollect([key])).map(({ result }) => result),
            ...(yield* Stream.runCollect(fleet.waitAll([key]))).map(({ result }) => result)
          ]
          assert.strictEqual(results.length, 4)
          for (const result of results) yield* issueOf(Effect.fromResult(result))
          yield* issueOf(fleet.summary([key]))
          yield* issueOf(RedisStore.RedisStore.use((store) => store.renew(key, 1, "1 second")))
        })
    )

    it.effect.each(commands.map(([event, options]) => [named({ event, options }), event, options] as const))(
      "refuses the command %s",
      ([, event, options]) =>
        Effect.gen(function*() {
          const key = yield* freshKey
          const query = yield* QueryStateMachine.make(key)
          yield* issueOf(Effect.suspend(() => query.trigger(untyped(event), untyped(options))))
          const fleet = yield* QueryFleet.make
          const [result = assert.fail("no result")] = yield* fleet.triggerMany(untyped(event), [key], untyped(options))
          yield* issueOf(Effect.fromResult(result))
        })
    )

    it.effect.each(["", null, undefined, 7, "\ud800", "x".repeat(513)])(
      "refuses a list of the database %s",
      (db) =>
        Effect.gen(function*() {
          const fleet = yield* QueryFleet.make
          yield* issueOf(Effect.suspend(() => Stream.runCollect(fleet.list(untyped(db)))))
        })
    )

    it.effect.each([null, 7, { states: 7 }, { states: ["Nope"] }])(
      "refuses a list with the options %o",
      (options) =>
        Effect.gen(function*() {
          const fleet = yield* QueryFleet.make
          const { db } = yield* freshKey
          yield* issueOf(Effect.suspend(() => Stream.runCollect(fleet.list(db, untyped(options)))))
        })
    )

    it.effect.each(waits.map((options) => [named(options), options] as const))(
      "refuses a wait with the options %s",
      ([, options]) =>
        Effect.gen(function*() {
          const query = yield* QueryStateMachine.make(yield* freshKey)
          yield* query.enqueue
          yield* issueOf(Effect.suspend(() => query.waitUntilComplete(untyped(options))))
        })
    )

    it.effect.each(runs.map((options) => [named(options), options] as const))(
      "refuses a run with the options %s, and claims nothing",
      ([, options]) =>
        Effect.gen(function*() {
          const query = yield* QueryStateMachine.make(yield* freshKey)
          yield* issueOf(Effect.suspend(() => query.run(untyped(options))))
          assert.isTrue(yield* query.isKnown)
        })
    )

    it.effect("refuses work that is no function, and claims nothing", () =>
      Effect.gen(function*() {
        const query = yield* QueryStateMachine.make(yield* freshKey)
        yield* query.enqueue
        for (const value of [undefined, null, Effect.void]) {
          yield* issueOf(Effect.suspend(() => query.withExecution(notWork(value))))
          yield* issueOf(Effect.suspend(() => query.withReset(notWork(value))))
        }
        yield* issueOf(Effect.suspend(() => query.withExecution(work, untyped(null))))
        yield* issueOf(Effect.suspend(() => query.withReset(work, untyped(null))))
        assert.isTrue(yield* query.isQueued)
      }))

    it.effect.each([
      null,
      7,
      { waitsFor: null },
      { waitsFor: 7 },
      { waitsFor: [null] },
      { waitsFor: [{ key: "warehouse/stock", version: 1 }] },
      { waitsFor: [{ key: { db: "", query: "stock" }, version: 1 }] },
      { waitsFor: [{ key: { db: "warehouse", query: "stock" }, version: Number.NaN }] },
      { progress: null },
      { progress: 7 }
    ])("refuses a renewal with the report %j, and leaves the claim as it is", (report) =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const key = yield* freshKey
        const { record } = yield* store.compareAndSet(key, { event: ["Queue", "Execute"], lease: "1 hour" })
        yield* issueOf(Effect.suspend(() => store.renew(key, record.version, "2 hours", untyped(report))))
        assert.deepStrictEqual(yield* store.read(key), record)
      }))

    it.effect("refuses keys that are no list, one result for all", () =>
      Effect.gen(function*() {
        const fleet = yield* QueryFleet.make
        for (const value of [null, undefined, 7, {}]) {
          const results: ReadonlyArray<Result.Result<unknown, unknown>> = [
            ...(yield* Effect.suspend(() => fleet.readMany(untyped(value)))),
            ...(yield* Effect.suspend(() => fleet.triggerMany("Queue", untyped(value)))),
            ...(yield* Effect.suspend(() => fleet.waitAllCollect(untyped(value)))).map(({ result }) => result)
          ]
          assert.isTrue(results.length === 3 && results.every((result) => Result.isFailure(result)))
        }
      }))

    it.effect("refuses progress that is none, and the work goes on", () =>
      Effect.gen(function*() {
        const query = yield* QueryStateMachine.make(yield* freshKey)
        yield* query.enqueue
        yield* query.withExecution(({ report }) =>
          Effect.forEach(
            [null, undefined, 7, {}, { done: "x" }, { done: 1, note: 7 }, { done: 1, total: null }, { done: -1 }],
            (progress) => issueOf(Effect.suspend(() => report(untyped(progress))))
          )
        )
        assert.isTrue(yield* query.isCompleted)
      }))
  })
})

const notOptions = [null, 7, "redis://localhost:6379", []]
const notStoreOptions: ReadonlyArray<Record<string, unknown>> = [
  { prefix: 7 },
  { prefix: null },
  { replicas: null },
  { replicas: 7 },
  { replicas: {} },
  { history: null },
  { history: 7 },
  { history: {} }
]
const notAddresses: ReadonlyArray<unknown> = [
  ...notOptions,
  undefined,
  {},
  { url: "redis://localhost:6379" },
  { url: null },
  { url: Redacted.make(7) },
  { redis: null },
  { redis: 7 },
  { url: Redacted.make("redis://localhost:6379"), redis: {} }
]
const notClusters: ReadonlyArray<unknown> = [
  ...notOptions,
  undefined,
  {},
  { nodes: null },
  { nodes: "redis://localhost:6379" },
  { nodes: [] },
  { nodes: [null] },
  { nodes: ["redis://localhost:6379"] },
  { nodes: [{ host: 7, port: 6379 }] },
  { nodes: [{ host: "localhost", port: "6379" }] },
  { nodes: [{ host: "localhost", port: -1 }] },
  { nodes: [{ host: "localhost", port: 6379 }], cluster: null }
]
const notClients: ReadonlyArray<unknown> = [
  null,
  undefined,
  7,
  {},
  { options: null },
  Redacted.make("redis://localhost")
]
const notConfigs: ReadonlyArray<unknown> = [
  null,
  undefined,
  7,
  {},
  { url: null },
  { url: "redis://localhost:6379" },
  { url: Redacted.make("redis://localhost:6379") },
  { url: Config.succeed("redis://localhost:6379") },
  { url: Config.Redacted("REDIS_URL"), prefix: "query-state" }
]

type AnyLayer = Layer.Layer<never, unknown, never>
type Wrong = readonly [layer: string, values: ReadonlyArray<unknown>, layerOf: (value: never) => AnyLayer]

/** The options of a layer that has an address, each of which is wrong. */
const withAddress = (address: Record<string, unknown>, others: ReadonlyArray<Record<string, unknown>> = []) =>
  [...notStoreOptions, ...others].map((options) => Object.assign({}, address, options))

const client = { options: { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 }, on: () => {} }
const url = Redacted.make("redis://localhost:6379")
const wrongSweeps: ReadonlyArray<unknown> = [null, undefined, 7, {}, { db: 7 }, { db: "" }, {
  db: "db",
  schedule: null
}]

const wrong: ReadonlyArray<Wrong> = [
  ["RedisStoreLive.layer", notAddresses, RedisStoreLive.layer],
  ["RedisStoreLive.layer", withAddress({ url }), RedisStoreLive.layer],
  ["RedisStoreLive.layerCluster", notClusters, RedisStoreLive.layerCluster],
  [
    "RedisStoreLive.layerCluster",
    withAddress({ nodes: [{ host: "localhost", port: 6379 }] }),
    RedisStoreLive.layerCluster
  ],
  ["RedisStoreLive.layerConfig", notConfigs, RedisStoreLive.layerConfig],
  ["RedisStoreLive.layerClient", notClients, RedisStoreLive.layerClient],
  [
    "RedisStoreLive.layerClient with options",
    [...notOptions, ...notStoreOptions],
    (options) => RedisStoreLive.layerClient(untyped(client), options)
  ],
  ["RedisStoreFlowMachine.layer", notAddresses, RedisStoreFlowMachine.layer],
  [
    "RedisStoreFlowMachine.layer",
    withAddress({ url }, [{ dialect: 7 }, { dialect: null }, { dialect: "python" }]),
    RedisStoreFlowMachine.layer
  ],
  ["RedisStoreFlowMachine.layerConfig", notConfigs, RedisStoreFlowMachine.layerConfig],
  ["RedisStoreFlowMachine.layerClient", notClients, RedisStoreFlowMachine.layerClient],
  [
    "RedisStoreFlowMachine.layerClient with options",
    [...notOptions, ...notStoreOptions, { dialect: "python" }],
    (options) => RedisStoreFlowMachine.layerClient(untyped(client), options)
  ],
  [
    "RedisStoreFlowMachine.layerSweep",
    wrongSweeps,
    (options) => Layer.provide(RedisStoreFlowMachine.layerSweep(options), RedisStoreMemory.layer)
  ],
  [
    "RedisStoreMemory.layerWith",
    [null, undefined, 7, { history: null }, { history: 7 }, { history: {} }],
    RedisStoreMemory.layerWith
  ]
]

const shown = (value: unknown) => Inspectable.toStringUnknown(value, 0)

it.effect.each(
  wrong.flatMap(([name, values, layerOf]) => values.map((value) => [name, shown(value), value, layerOf] as const))
)("%s refuses %s", ([, , value, layerOf]) =>
  Effect.gen(function*() {
    const issue = yield* issueOf(Effect.scoped(Layer.build(layerOf(untyped(value)))))
    // The address may hold a password.
    assert.notInclude(issue, "//localhost")
  }))

it.effect.each(["soon", "", null, [], true, Number.NaN, -1, 0])(
  "the layers refuse %s as a duration",
  (value) =>
    Effect.gen(function*() {
      const url = Redacted.make(inject("redisUrl"))
      for (
        const options of [
          { commandTimeout: untyped(value) },
          { connectTimeout: untyped(value) },
          { replicas: { count: 1, timeout: untyped(value) } },
          { history: { length: 1, retention: untyped(value) } },
          ...["completed", "failed", "cancelled"].map((option) => ({ keep: { [option]: untyped(value) } }))
        ]
      ) {
        yield* issueOf(Effect.scoped(Layer.build(RedisStoreLive.layer({ url, ...options }))))
      }
    })
)

it.effect.each([null, 7, "10"])("the layers refuse the history %j", (history) =>
  Effect.gen(function*() {
    const url = Redacted.make(inject("redisUrl"))
    const options = { history: untyped(history) }
    for (
      const layer of [
        Layer.suspend(() => RedisStoreMemory.layerWith(options)),
        RedisStoreLive.layer({ url, ...options })
      ]
    ) {
      assert.match(yield* issueOf(Effect.scoped(Layer.build(layer))), /history/)
    }
  }))

const wrongKeeps: ReadonlyArray<unknown> = [null, 7, "1 hour", { completed: null }, { failed: "soon" }, {
  cancelled: 0
}, {
  completed: Infinity
}]

type LayerWith = (keep: RedisStore.KeepOptions) => Layer.Layer<RedisStore.RedisStore, unknown>

const serverUrl = Effect.sync(() => Redacted.make(inject("redisUrl")))

const layersWith: ReadonlyArray<readonly [name: string, layer: Effect.Effect<LayerWith, unknown, Scope.Scope>]> = [
  ["RedisStoreMemory.layerWith", Effect.succeed((keep) => RedisStoreMemory.layerWith({ keep }))],
  ["RedisStoreLive.layer", Effect.map(serverUrl, (url) => (keep) => RedisStoreLive.layer({ url, keep }))],
  [
    "RedisStoreLive.layerConfig",
    Effect.map(
      serverUrl,
      (url) => (keep) => RedisStoreLive.layerConfig({ url: Config.succeed(url), keep: Config.succeed(keep) })
    )
  ],
  [
    "RedisStoreLive.layerClient",
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() =>
          new Redis(inject("redisUrl"), { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 })
        ),
        (client) => Effect.sync(() => client.disconnect())
      ),
      (client) => (keep) => RedisStoreLive.layerClient(client, { keep })
    )
  ],
  [
    "RedisStoreLive.layerCluster",
    Effect.map(RedisCluster.acquire(1), ({ primaries }) => {
      const nodes = primaries.map(({ server: { host, port } }) => ({ host, port }))
      return (keep) => RedisStoreLive.layerCluster({ nodes, keep })
    })
  ]
]

it.live.each(layersWith)("%s refuses what is no keep", ([, makeLayer]) =>
  Effect.scoped(Effect.gen(function*() {
    const layerWith = yield* makeLayer
    for (const keep of wrongKeeps) {
      assert.match(yield* issueOf(Effect.scoped(Layer.build(layerWith(untyped(keep))))), /^keep/)
    }
    yield* Effect.scoped(Layer.build(layerWith({ completed: undefined, failed: "1 minute", cancelled: 1 })))
  })))
