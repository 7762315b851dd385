/** What a store that is shared with FlowMachine does not offer, and how it can be connected. */
import { assert, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Layer, Redacted, type Scope, Stream } from "effect"
import { QueryKey, QueryState, RedisStore, type RedisStoreError, RedisStoreFlowMachine } from "effect-query-state"
import { Cluster, Redis, type RedisOptions } from "ioredis"
import { inject } from "vitest"
import { stateKey, stored, withAdmin } from "../support/flowMachine.ts"
import * as Notifications from "../support/Notifications.ts"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"

const url = Redacted.make(inject("redisUrl"))

/** Why a layer cannot be made. */
const refusalOf = <E>(layer: Layer.Layer<RedisStore.RedisStore, E>) =>
  Layer.build(layer).pipe(Effect.scoped, Effect.flip)

const invalid = { _tag: "InvalidInput", operation: "configure the store", key: undefined }

const assertInvalid = (error: RedisStoreError.RedisStoreError, issue: string) => {
  assert.deepStrictEqual(errorFields(error), invalid)
  assert.include(error.message, issue)
}

const acquireClient = <Client extends Redis | Cluster>(make: () => Client): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = make()
      client.on("error", () => {})
      return client
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

it.live("a server of a cluster is refused with the reason", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire({ args: ["--cluster-enabled", "yes"] })
    const issue =
      "a Redis Cluster cannot be shared with FlowMachine, whose keys for one query fall into different slots"
    assertInvalid(yield* refusalOf(RedisStoreFlowMachine.layer({ url: Redacted.make(url) })), issue)
    const client = yield* RedisAdmin.connect(url)
    assertInvalid(yield* refusalOf(RedisStoreFlowMachine.layerClient(client)), issue)
  }))

it.live("a client of a cluster is refused with the reason before any command", () =>
  Effect.gen(function*() {
    const cluster = yield* acquireClient(() => new Cluster([{ host: "127.0.0.1", port: 1 }], { lazyConnect: true }))
    // The types refuse it, too.
    const error = yield* refusalOf(RedisStoreFlowMachine.layerClient(cluster as unknown as Redis))
    assertInvalid(error, "a Redis Cluster cannot be shared with FlowMachine")
    assert.strictEqual(cluster.status, "wait")
  }))

it.live("a client with a key prefix is refused: FlowMachine has none", () =>
  Effect.gen(function*() {
    const issue = "a client with a keyPrefix would keep the states where FlowMachine does not look"
    const client = yield* acquireClient(() => new Redis(inject("redisUrl"), { keyPrefix: "app:" }))
    assertInvalid(yield* refusalOf(RedisStoreFlowMachine.layerClient(client)), issue)
    const { hostname, port } = new URL(inject("redisUrl"))
    const redis = { host: hostname, port: Number(port), keyPrefix: "app:" }
    assertInvalid(yield* refusalOf(RedisStoreFlowMachine.layer({ redis })), issue)
  }))

it.live.each([
  { prefix: "finist", issue: `prefix must not start with "finist"` },
  { prefix: "finist:x", issue: `prefix must not start with "finist"` },
  { prefix: "{a}", issue: "prefix must hold no braces" }
])("the prefix $prefix is refused", ({ issue, prefix }) =>
  Effect.gen(function*() {
    assertInvalid(yield* refusalOf(RedisStoreFlowMachine.layer({ url, prefix })), issue)
  }))

it.live("a wrong time-out is refused", () =>
  Effect.gen(function*() {
    for (const options of [{ commandTimeout: 0 }, { connectTimeout: Infinity }]) {
      assertInvalid(yield* refusalOf(RedisStoreFlowMachine.layer({ url, ...options })), "longer than zero and finite")
    }
  }))

it.layer(RedisStoreFlowMachine.layer({ url }), { excludeTestServices: true })(
  "A database whose id holds a colon",
  (it) => {
    it.effect("is refused by every operation and writes nothing", () =>
      Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const { db, query } = yield* freshKey
        const key = QueryKey.makeUnsafe({ db: `${db}:x`, query })
        const operations: ReadonlyArray<Effect.Effect<unknown, Parameters<typeof errorFields>[0], Scope.Scope>> = [
          store.compareAndSet(key, { event: "Queue" }),
          store.read(key),
          store.renew(key, 1, "1 minute"),
          store.changes(key, Notifications.noListener),
          Stream.runDrain(store.keys(key.db)),
          Effect.flatMap(
            store.compareAndSetMany([[key, { event: "Queue" }]]),
            ([result]) => Effect.fromResult(result ?? assert.fail())
          ),
          Effect.flatMap(store.readMany([key]), ([result]) => Effect.fromResult(result ?? assert.fail()))
        ]
        for (const operation of operations) {
          const error = yield* Effect.flip(operation)
          assert.strictEqual(errorFields(error)["_tag"], "InvalidInput")
          assert.include(error.message, `under the names of others: its id must hold no ":"`)
        }
        assert.deepStrictEqual(yield* stored(key), [])
      }).pipe(Effect.scoped))

    it.effect("would share its keys with another database", () =>
      Effect.sync(() => {
        assert.strictEqual(
          stateKey(QueryKey.makeUnsafe({ db: "a:b", query: "c" })),
          stateKey(QueryKey.makeUnsafe({ db: "a", query: "b:c" }))
        )
      }))
  }
)

it.live("layerConfig takes all options from configuration", () =>
  Effect.gen(function*() {
    const key = yield* freshKey
    const layer = RedisStoreFlowMachine.layerConfig({
      url: Config.Redacted("REDIS_URL"),
      dialect: Config.Literals(["released", "reset-failed"], "DIALECT"),
      prefix: Config.String("PREFIX"),
      commandTimeout: Config.Duration("COMMAND_TIMEOUT"),
      connectTimeout: Config.Duration("CONNECT_TIMEOUT")
    }).pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({
      REDIS_URL: inject("redisUrl"),
      DIALECT: "reset-failed",
      PREFIX: "configured",
      COMMAND_TIMEOUT: "5 seconds",
      CONNECT_TIMEOUT: "5 seconds"
    }))))
    const { state } = yield* Effect.provide(driveTo(key, "ResetFailed"), layer)
    assert.strictEqual(state._tag, "ResetFailed")
    assert.strictEqual(yield* withAdmin((admin) => admin.get(stateKey(key))), "reset_failed")
    assert.strictEqual(yield* withAdmin((admin) => admin.hget(`configured:${stateKey(key)}`, "s")), "reset_failed")
  }))

it.live.each<[what: string, options: Omit<RedisOptions, "replyMapping">]>([
  ["as it comes", {}],
  ["that is not connected yet", { lazyConnect: true }],
  ["that speaks RESP 2", { protocol: 2 }],
  ["in another database", { db: 3 }]
])("layerClient uses a client %s", ([, options]) =>
  Effect.gen(function*() {
    const client = yield* acquireClient(() =>
      new Redis(inject("redisUrl"), { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0, ...options })
    )
    const key = yield* freshKey
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const notifications = yield* Notifications.subscribe(key)
      const { version } = yield* driveTo(key, "Executing", { lease: "1 hour" })
      yield* store.renew(key, version, "1 hour")
      const { record } = yield* store.compareAndSet(key, { event: "Finish", fence: version })
      assert.deepStrictEqual(record.state, QueryState.completed)
      let seen = 0
      while (seen < record.version) seen = yield* notifications.next
    }).pipe(Effect.scoped, Effect.provide(RedisStoreFlowMachine.layerClient(client)))
    assert.strictEqual(yield* Effect.promise(() => client.get(stateKey(key))), "completed")
  }))
