import { assert, it } from "@effect/vitest"
import { Config, ConfigProvider, Duration, Effect, Fiber, Layer, Redacted, Schedule, Stream } from "effect"
import { QueryKey, QueryState, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import { Redis, type RedisOptions } from "ioredis"
import { inject } from "vitest"
import * as Notifications from "../support/Notifications.ts"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"

const url = Redacted.make(inject("redisUrl"))

type Options = Omit<RedisStoreLive.Options, "url" | "redis">

const stateIn = Effect.fnUntraced(function*(redisKey: string) {
  const admin = yield* RedisAdmin.connect(inject("redisUrl"))
  return yield* Effect.promise(() => admin.hget(redisKey, "s"))
}, Effect.scoped)

const idIn = ({ db, query }: QueryKey.QueryKey) => `{${db}:${query}}`

it.live.each<[what: string, options: Options, issue: string]>([
  ...["connectTimeout", "commandTimeout"].flatMap((name) =>
    [0, -1, Infinity, Number.NaN, "0 seconds", "-1 minutes", Duration.infinity].map((
      duration
    ): [string, object, string] => [
      `a ${name} of ${String(duration)}`,
      { [name]: duration },
      `${name} must be longer than zero and finite`
    ])
  ),
  ...["{", "}", "query-state:{a}"].map((prefix): [string, object, string] => [
    `the prefix ${prefix}`,
    { prefix },
    "prefix must hold no braces"
  ])
])("%s is invalid", ([, options, issue]) =>
  Effect.gen(function*() {
    const error = yield* Layer.build(RedisStoreLive.layer({ url, ...options })).pipe(Effect.scoped, Effect.flip)
    assert.deepStrictEqual(errorFields(error), {
      _tag: "InvalidInput",
      operation: "configure the store",
      key: undefined
    })
    assert.include(error.message, issue)
  }))

it.live.each<[what: string, options: Options]>([
  ["time-outs beyond the timers of Node", { connectTimeout: "3650 days", commandTimeout: "3650 days" }],
  ["an empty prefix", { prefix: "" }],
  ["a prefix of any other characters", { prefix: "*?[^a]\\ %:😀" }]
])("%s: all operations work", ([, options]) =>
  Effect.gen(function*() {
    const key = yield* freshKey
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      yield* Notifications.ignored(key)
      const record = yield* driveTo(key, "Executing", { lease: "1 hour" })
      const found = yield* store.keys(key.db).pipe(Stream.filter(({ query }) => query === key.query), Stream.runCollect)
      assert.deepStrictEqual(found, [key])
      yield* store.renew(key, record.version, "1 hour")
    }).pipe(Effect.scoped, Effect.provide(RedisStoreLive.layer({ url, ...options })))
    const prefix = options.prefix ?? "query-state"
    assert.strictEqual(yield* stateIn(`${prefix}:${idIn(key)}`), "executing")
  }))

const configured = RedisStoreLive.layerConfig({
  url: Config.Redacted("REDIS_URL"),
  prefix: Config.String("PREFIX"),
  commandTimeout: Config.Duration("COMMAND_TIMEOUT"),
  connectTimeout: Config.Duration("CONNECT_TIMEOUT")
})

const configuration = {
  REDIS_URL: inject("redisUrl"),
  PREFIX: "configured",
  COMMAND_TIMEOUT: "5 seconds",
  CONNECT_TIMEOUT: "5 seconds"
}

const configuredWith = (configuration: Record<string, string>) =>
  Layer.provide(configured, ConfigProvider.layer(ConfigProvider.fromUnknown(configuration)))

it.live("layerConfig takes all options from configuration", () =>
  Effect.gen(function*() {
    const key = yield* freshKey
    yield* Effect.provide(driveTo(key, "Queued"), configuredWith(configuration))
    assert.strictEqual(yield* stateIn(`configured:${idIn(key)}`), "queued")
  }))

it.live("layerConfig needs no more than a URL", () =>
  Effect.gen(function*() {
    const key = yield* freshKey
    const layer = RedisStoreLive.layerConfig({ url: Config.Redacted("REDIS_URL") }).pipe(
      Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ REDIS_URL: inject("redisUrl") })))
    )
    yield* Effect.provide(driveTo(key, "Queued"), layer)
    assert.strictEqual(yield* stateIn(`query-state:${idIn(key)}`), "queued")
  }))

it.live.each(Object.keys(configuration))("layerConfig fails when %s is missing", (name) =>
  Effect.gen(function*() {
    const { [name]: _missing, ...rest } = { ...configuration } as Record<string, string>
    const error = yield* Layer.build(configuredWith(rest)).pipe(Effect.scoped, Effect.flip)
    assert.strictEqual(error._tag, "ConfigError")
    assert.include(error.message, name)
  }))

it.live("layerConfig validates what it reads", () =>
  Effect.gen(function*() {
    const soon = yield* Layer.build(configuredWith({ ...configuration, COMMAND_TIMEOUT: "soon" })).pipe(
      Effect.scoped,
      Effect.flip
    )
    assert.strictEqual(soon._tag, "ConfigError")
    assert.include(soon.message, "COMMAND_TIMEOUT")
    const http = yield* Layer.build(configuredWith({ ...configuration, REDIS_URL: "http://localhost" })).pipe(
      Effect.scoped,
      Effect.flip
    )
    assert.deepStrictEqual(http._tag === "RedisStoreError" && errorFields(http), {
      _tag: "InvalidInput",
      operation: "connect",
      key: undefined
    })
  }))

type ClientOptions = Omit<RedisOptions, "replyMapping">

/** A client that the program made itself. */
const ownClient = (options: ClientOptions, url = inject("redisUrl")) =>
  Effect.acquireRelease(
    Effect.sync(() => new Redis(url, { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0, ...options })),
    (client) => Effect.sync(() => client.disconnect())
  )

it.live.each<[what: string, options: ClientOptions]>([
  ["with no other options than it has to have", {}],
  ["that is not connected yet", { lazyConnect: true }],
  ["that speaks RESP 2", { protocol: 2 }],
  ["that answers numbers as texts", { stringNumbers: true }],
  ["that pipelines by itself", { enableAutoPipelining: true }],
  ["in another database", { db: 3 }],
  ["with a prefix of its own", { keyPrefix: "app:" }]
])("layerClient uses a client %s", ([, options]) =>
  Effect.gen(function*() {
    const client = yield* ownClient(options)
    const key = yield* freshKey
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const query = yield* QueryStateMachine.make(key)
      const { version } = yield* driveTo(key, "Executing", { lease: "1 hour" })
      const found = yield* store.keys(key.db).pipe(Stream.filter(({ query }) => query === key.query), Stream.runCollect)
      assert.deepStrictEqual(found, [key])
      // Nothing but a notification can end this wait.
      const waiter = yield* Effect.forkChild(
        query.waitUntilComplete({ schedule: Schedule.spaced("1 hour") }),
        { startImmediately: true }
      )
      yield* Effect.repeat(
        Effect.promise(() => client.pubsub("NUMSUB", `${options.keyPrefix ?? ""}query-state:${idIn(key)}`)),
        { until: ([, subscribers]) => Number(subscribers) > 0 }
      )
      yield* store.renew(key, version, "1 hour")
      yield* query.trigger("Finish", { fence: version })
      assert.deepStrictEqual((yield* Fiber.join(waiter)).state, QueryState.completed)
    }).pipe(Effect.provide(RedisStoreLive.layerClient(client)))
    assert.strictEqual(yield* Effect.promise(() => client.hget(`query-state:${idIn(key)}`, "s")), "completed")
  }))

it.live.each<ClientOptions>([
  { autoResendUnfulfilledCommands: true },
  { maxRetriesPerRequest: 20 },
  { maxRetriesPerRequest: null }
])(
  "layerClient refuses a client that sends commands again by itself, and says how to make it: %j",
  (options) =>
    Effect.gen(function*() {
      const client = yield* ownClient(options)
      const error = yield* Layer.build(RedisStoreLive.layerClient(client)).pipe(Effect.scoped, Effect.flip)
      assert.deepStrictEqual(errorFields(error), {
        _tag: "InvalidInput",
        operation: "configure the store",
        key: undefined
      })
      assert.include(error.message, "autoResendUnfulfilledCommands: false and maxRetriesPerRequest: 0")
    })
)

it.live("layerClient puts its own prefix after that of its client", () =>
  Effect.gen(function*() {
    const client = yield* ownClient({ keyPrefix: "app:" })
    const key = yield* freshKey
    yield* Effect.provide(driveTo(key, "Queued"), RedisStoreLive.layerClient(client, { prefix: "reports" }))
    assert.strictEqual(yield* stateIn(`app:reports:${idIn(key)}`), "queued")
  }))

it.live("layerClient closes only what it opened, and leaves the client and its listeners unchanged", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const client = yield* ownClient({}, url)
    const connections = Effect.promise(async () => String(await client.client("LIST")).trim().split("\n").length)
    const listeners = () => client.eventNames().map((name) => [name, client.listenerCount(name)])
    assert.strictEqual(yield* connections, 1)
    const before = listeners()
    yield* Effect.gen(function*() {
      yield* Notifications.ignored(yield* freshKey)
      assert.strictEqual(yield* connections, 2)
    }).pipe(Effect.scoped, Effect.provide(RedisStoreLive.layerClient(client)))
    yield* Effect.repeat(connections, { until: (count) => count === 1 })
    assert.strictEqual(client.status, "ready")
    assert.deepStrictEqual(listeners(), before)
  }))

it.live("layerClient fails with a closed client", () =>
  Effect.gen(function*() {
    const client = yield* ownClient({})
    client.disconnect()
    const error = yield* Layer.build(RedisStoreLive.layerClient(client)).pipe(Effect.scoped, Effect.flip)
    assert.deepStrictEqual(errorFields(error), {
      _tag: "ConnectionLost",
      operation: "prepare the store",
      key: undefined
    })
  }))
