import { assert, it } from "@effect/vitest"
import { Config, ConfigProvider, Context, Effect, Fiber, Layer, Redacted } from "effect"
import { QueryState, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import { Redis } from "ioredis"
import { inject } from "vitest"
import { driveTo, errorFields, freshKey, life, redisKeyOf } from "../support/queries.ts"
import * as Replicated from "../support/Replicated.ts"

class Servers extends Context.Service<Servers, Replicated.Replicated>()("test/replicas/Servers") {
  static readonly layer = Layer.effect(Servers, Replicated.acquire({ count: 2 }))
}

const storeWith = (replicas: RedisStoreLive.ReplicaOptions | undefined) =>
  Layer.unwrap(
    Servers.useSync(({ primary: { server } }) => RedisStoreLive.layer({ url: Redacted.make(server.url), replicas }))
  )

/** How many WAIT commands the primary has run. */
const waits = Servers.use(({ primary: { admin } }) =>
  Effect.promise(async () => Number(/^cmdstat_wait:calls=(\d+)/m.exec(await admin.info("commandstats"))?.[1] ?? 0))
)

/** How many WAIT commands an effect causes. */
const waitsFor = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const before = yield* waits
    yield* effect
    return (yield* waits) - before
  })

/** The states of queries as a server has them now. */
const statesOn = ({ admin }: Replicated.Node, keys: ReadonlyArray<{ readonly db: string; readonly query: string }>) =>
  Effect.promise(() => Promise.all(keys.map((key) => admin.hget(redisKeyOf(key), "s"))))

it.layer(Servers.layer, { excludeTestServices: true, timeout: "30 seconds" })("A primary with two replicas", (it) => {
  it.effect("is not asked for replication by default", () =>
    Effect.gen(function*() {
      const sent = yield* waitsFor(
        Effect.gen(function*() {
          const query = yield* QueryStateMachine.make(yield* freshKey)
          yield* query.run({ execute: () => Effect.void, result: Effect.succeedSome(undefined) })
          yield* query.withReset(() => Effect.void)
        }).pipe(Effect.provide(storeWith(undefined)))
      )
      assert.strictEqual(sent, 0)
    }))

  it.effect("has replicated what it answers, when asked for replication", () =>
    Effect.gen(function*() {
      const { replicas } = yield* Servers
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      for (const event of life) {
        const { changed, record: { state } } = yield* store.compareAndSet(key, { event })
        assert.isTrue(changed)
        for (const replica of replicas) {
          assert.deepStrictEqual(yield* statesOn(replica, [key]), [QueryState.wireNames[state._tag]])
        }
      }
    }).pipe(Effect.provide(storeWith({ count: 2 }))))

  it.effect("gets one WAIT for each transition, and none for reads and renewals", () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      assert.strictEqual(
        yield* waitsFor(Effect.forEach(life, (event) => store.compareAndSet(key, { event }))),
        life.length
      )
      const { version } = yield* driveTo(key, "Queued", { lease: "1 hour" })
      assert.strictEqual(yield* waitsFor(store.read(key)), 0)
      assert.strictEqual(yield* waitsFor(store.renew(key, version, "1 hour")), 0)
    }).pipe(Effect.provide(storeWith({ count: 1 }))))

  it.effect("gets one WAIT for many concurrent transitions", () =>
    Effect.gen(function*() {
      const { replicas } = yield* Servers
      const store = yield* RedisStore.RedisStore
      const keys = yield* Effect.replicateEffect(freshKey, 200)
      const queueAll = store.compareAndSetMany(keys.map((key) => [key, { event: "Queue" }]))
      assert.isAtMost(yield* waitsFor(queueAll), 2)
      for (const replica of replicas) {
        assert.deepStrictEqual(yield* statesOn(replica, keys), keys.map(() => "queued"))
      }
    }).pipe(Effect.provide(storeWith({ count: 2 }))))

  it.effect("fails when one replica is silent, although the transition is recorded", () =>
    Effect.gen(function*() {
      const { primary, replicas: [first] } = yield* Servers
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* Effect.gen(function*() {
        yield* Effect.forEach(first === undefined ? [] : [first], Replicated.frozen)
        const error = yield* Effect.flip(store.compareAndSet(key, { event: "Queue" }))
        assert.deepStrictEqual(errorFields(error), { _tag: "NotReplicated", operation: "Queue", key })
        assert.deepInclude(error.reason, { wanted: 2, acknowledged: 1 })
        assert.include(error.message, "it is recorded on the primary, but reached only 1 of the 2 requested replicas")
        assert.deepStrictEqual(yield* statesOn(primary, [key]), ["queued"])
      }).pipe(Effect.scoped)
      yield* Replicated.caughtUp(primary)
      const { changed, record } = yield* store.compareAndSet(key, { event: "Cancel" })
      assert.deepStrictEqual([changed, record.state], [true, QueryState.make("Cancelled")])
    }).pipe(Effect.provide(storeWith({ count: 2, timeout: "1 second" }))))

  it.effect("succeeds with as many replicas as configured", () =>
    Effect.gen(function*() {
      const { replicas: [first] } = yield* Servers
      yield* Effect.forEach(first === undefined ? [] : [first], Replicated.frozen)
      assert.strictEqual((yield* driveTo(yield* freshKey, "Completed")).state._tag, "Completed")
    }).pipe(Effect.scoped, Effect.provide(storeWith({ count: 1 }))))

  it.effect("answers commands that change nothing without its replicas", () =>
    Effect.gen(function*() {
      const { replicas } = yield* Servers
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const { version } = yield* Effect.provide(driveTo(key, "Executing", { lease: "1 hour" }), storeWith(undefined))
      yield* Effect.forEach(replicas, Replicated.frozen)
      assert.isFalse((yield* store.compareAndSet(key, { event: "Queue" })).changed)
      assert.strictEqual(
        (yield* Effect.flip(store.compareAndSet(key, { event: "Finish", fence: 1 })))._tag,
        "LeaseLost"
      )
      assert.strictEqual((yield* store.read(key)).version, version)
      assert.strictEqual((yield* store.renew(key, version, "1 hour")).version, version)
    }).pipe(Effect.scoped, Effect.provide(storeWith({ count: 1, timeout: "200 millis" }))))

  it.effect("with all replicas silent answers many callers within two of its WAITs", () =>
    Effect.gen(function*() {
      const { replicas } = yield* Servers
      const store = yield* RedisStore.RedisStore
      const held = yield* driveTo(yield* freshKey, "Executing", { lease: "1 hour" })
      yield* Effect.forEach(replicas, Replicated.frozen)
      const before = yield* waits
      // One after the other, and none of them waits for the one before.
      const queue = Effect.andThen(
        Effect.sleep("1 millis"),
        Effect.flatMap(freshKey, (key) => Effect.forkChild(Effect.flip(store.compareAndSet(key, { event: "Queue" }))))
      )
      const fibers = yield* Effect.replicateEffect(queue, 100)
      assert.strictEqual((yield* store.renew(held.key, held.version, "1 hour")).version, held.version)
      const errors = yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(errors.map(({ reason }) => reason._tag), errors.map(() => "NotReplicated"))
      assert.isBelow((yield* waits) - before, 10)
    }).pipe(Effect.scoped, Effect.provide(storeWith({ count: 1, timeout: "500 millis" }))))

  it.effect("refuses a user without permission for WAIT", () =>
    Effect.gen(function*() {
      const { primary: { admin, server: { host, port } } } = yield* Servers
      yield* Effect.promise(() => admin.acl("SETUSER", "app", "on", ">secret", "+@all", "-wait", "~*", "&*"))
      const url = Redacted.make(`redis://app:secret@${host}:${port}`)
      const error = yield* Layer.build(RedisStoreLive.layer({ url, replicas: { count: 1 } })).pipe(
        Effect.scoped,
        Effect.flip
      )
      assert.deepStrictEqual(errorFields(error), {
        _tag: "AccessDenied",
        operation: "prepare the store",
        key: undefined
      })
      yield* Effect.scoped(Layer.build(RedisStoreLive.layer({ url })))
    }))

  it.effect("is distinguished from a replica, which has no replicas", () =>
    Effect.gen(function*() {
      const { replicas: [first] } = yield* Servers
      const url = Redacted.make(first?.server.url ?? "")
      const error = yield* Layer.build(RedisStoreLive.layer({ url, replicas: { count: 1 } })).pipe(
        Effect.scoped,
        Effect.flip
      )
      assert.deepStrictEqual(errorFields(error), { _tag: "ReadOnly", operation: "prepare the store", key: undefined })
    }))

  it.effect("replicates through a client of the program, and as configured", () =>
    Effect.gen(function*() {
      const { primary } = yield* Servers
      const { server } = primary
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(server.url, { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 })),
        (client) => Effect.sync(() => client.disconnect())
      )
      const configured = RedisStoreLive.layerConfig({
        url: Config.Redacted("REDIS_URL"),
        replicas: Config.map(Config.Int("REPLICAS"), (count) => ({ count }))
      }).pipe(
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ REDIS_URL: server.url, REPLICAS: "3" })))
      )
      // There is no third replica, so WAIT lasts half of commandTimeout. The other half must outlast a stalled server.
      const ofClient = RedisStoreLive.layerClient(client, { replicas: { count: 3 }, commandTimeout: "1800 millis" })
      for (const StoreLayer of [configured, ofClient]) {
        yield* Replicated.caughtUp(primary)
        const error = yield* Effect.flip(Effect.provide(driveTo(yield* freshKey, "Queued"), StoreLayer))
        assert.deepInclude("reason" in error ? error.reason : {}, { _tag: "NotReplicated", wanted: 3, acknowledged: 2 })
      }
    }))
})

const url = Redacted.make(inject("redisUrl"))

it.live.each<[what: string, options: RedisStoreLive.StoreOptions, issue: string]>([
  ...[0, -1, 1.5, Number.NaN, Infinity].map((count): [string, RedisStoreLive.StoreOptions, string] => [
    `${count} replicas`,
    { replicas: { count } },
    "replicas.count must be a whole number, and at least 1"
  ]),
  ...[0, -1, Infinity, Number.NaN, "2501 millis"].map((timeout): [string, RedisStoreLive.StoreOptions, string] => [
    `${timeout} for replicas`,
    { replicas: { count: 1, timeout } as RedisStoreLive.ReplicaOptions },
    "replicas.timeout must be longer than zero, and at most half of commandTimeout"
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

it.live.each([
  { autoResendUnfulfilledCommands: true },
  { maxRetriesPerRequest: 20 },
  { maxRetriesPerRequest: null }
])(
  "a client that resends commands by itself is refused with replication: %j",
  (redis) =>
    Effect.gen(function*() {
      const { hostname: host, port } = new URL(inject("redisUrl"))
      const error = yield* Layer.build(
        RedisStoreLive.layer({ redis: { host, port: Number(port), ...redis } })
      ).pipe(Effect.scoped, Effect.flip)
      assert.deepStrictEqual(errorFields(error), {
        _tag: "InvalidInput",
        operation: "configure the store",
        key: undefined
      })
      assert.include(error.message, "autoResendUnfulfilledCommands: false and maxRetriesPerRequest: 0")
    })
)
