/** Notifications of a cluster whose slots and servers come and go. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schedule } from "effect"
import { type QueryKey, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import * as NatCluster from "../../support/NatCluster.ts"
import { freshKey, redisKeyOf } from "../../support/queries.ts"
import * as RedisCluster from "../../support/RedisCluster.ts"

/** How many servers say that a channel is subscribed to. */
const subscribedTo = ({ primaries, replicas }: RedisCluster.RedisCluster, key: QueryKey.QueryKey) =>
  Effect.map(
    Effect.forEach([...primaries, ...replicas], ({ admin }) =>
      Effect.promise(() =>
        admin.call("PUBSUB", "SHARDCHANNELS", redisKeyOf(key)) as Promise<Array<string>>
      )),
    (perServer) => perServer.flat().length
  )

const untilSubscribed = (cluster: RedisCluster.RedisCluster, key: QueryKey.QueryKey) =>
  Effect.repeat(subscribedTo(cluster, key), { schedule: Schedule.spaced("20 millis"), until: (count) => count > 0 })

// Nothing but a notification ends these waits.
const never = Schedule.spaced("1 hour")

/** Waits for a query, and has somebody cancel it when it is subscribed to after `meanwhile`. */
const waitThrough = <E, R>(
  { cluster, options }: NatCluster.NatCluster,
  keyIn: Effect.Effect<QueryKey.QueryKey, E, R>,
  meanwhile: (key: QueryKey.QueryKey) => Effect.Effect<unknown, E, R>
) =>
  Effect.gen(function*() {
    const direct = yield* Layer.build(
      RedisStoreLive.layerCluster({ nodes: cluster.primaries.map(({ server: { host, port } }) => ({ host, port })) })
    )
    const key = yield* keyIn
    yield* Effect.gen(function*() {
      const query = yield* QueryStateMachine.make(key)
      yield* query.enqueue
      const wait = yield* Effect.forkChild(query.waitUntilComplete({ schedule: never }))
      yield* untilSubscribed(cluster, key)
      yield* meanwhile(key)
      yield* untilSubscribed(cluster, key)
      yield* Effect.provide(Effect.flatMap(QueryStateMachine.make(key), (query) => query.cancel), direct)
      assert.strictEqual((yield* Fiber.join(wait)).state._tag, "Cancelled")
    }).pipe(Effect.provide(RedisStoreLive.layerCluster(options)))
  }).pipe(Effect.scoped)

it.live("a slot that moves while all servers still say where it was is subscribed to where it is", () =>
  Effect.gen(function*() {
    const nat = yield* NatCluster.acquire()
    yield* waitThrough(
      nat,
      freshKey,
      (key) => Effect.andThen(nat.forgetToLearn, RedisCluster.moveSlotOf(nat.cluster, redisKeyOf(key)))
    )
  }))

it.live("a slot that moves there and back is subscribed to again", () =>
  Effect.gen(function*() {
    const nat = yield* NatCluster.acquire()
    const [first] = nat.cluster.primaries
    const keyOfFirst = Effect.repeat(freshKey, {
      until: (key) => Effect.map(RedisCluster.primaryOf(nat.cluster, redisKeyOf(key)), (primary) => primary === first)
    })
    yield* waitThrough(nat, keyOfFirst, (key) =>
      Effect.repeat(RedisCluster.moveSlotOf(nat.cluster, redisKeyOf(key)), { times: 1 }))
  }))

// This and the next one have few servers, and wait most of the time.
it.live(
  "a cluster of one primary that was out of reach is subscribed to again, each time",
  () =>
    Effect.gen(function*() {
      const nat = yield* NatCluster.acquire(1)
      yield* Effect.repeat(
        waitThrough(nat, freshKey, (key) =>
          Effect.gen(function*() {
            yield* Effect.forEach(nat.proxies, ({ cut, refuse }) => Effect.andThen(refuse, cut("all")))
            yield* Effect.repeat(subscribedTo(nat.cluster, key), { until: (count) => count === 0 })
            yield* Effect.sleep("4 seconds")
            yield* Effect.forEach(nat.proxies, ({ pass }) => pass)
          })),
        { times: 2 }
      )
    }),
  { concurrent: true }
)

it.live(
  "a connection for notifications that is silently dead is noticed within 10 seconds",
  () =>
    Effect.gen(function*() {
      const nat = yield* NatCluster.acquire(1)
      yield* waitThrough(nat, freshKey, (key) =>
        Effect.gen(function*() {
          yield* Effect.forEach(nat.proxies, ({ halfOpen }) => halfOpen("notifications"))
          yield* Effect.repeat(subscribedTo(nat.cluster, key), { until: (count) => count === 0 })
          yield* Effect.timeout(untilSubscribed(nat.cluster, key), "10 seconds")
        }))
    }),
  { concurrent: true }
)

it.live("a slot that no server has is a typed error, and the others are none the worse", () =>
  Effect.gen(function*() {
    const { cluster, options } = yield* NatCluster.acquire()
    const [key, other] = yield* Effect.all([freshKey, freshKey])
    const slot = yield* Effect.promise(() =>
      cluster.primaries[0]?.admin.cluster("KEYSLOT", redisKeyOf(key)) ?? Promise.reject(new Error("no primary"))
    )
    yield* Effect.forEach([...cluster.primaries, ...cluster.replicas], ({ admin }) =>
      Effect.promise(async () => {
        await admin.config("SET", "cluster-require-full-coverage", "no")
        await admin.call("CLUSTER", "DELSLOTS", slot).catch(() => {})
      }))
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const deaf = { onRecord: () => {}, onGap: () => {} }
      const write = yield* Effect.flip(store.compareAndSet(key, { event: "Queue" }))
      assert.strictEqual(write._tag === "RedisStoreError" && write.reason._tag, "Unavailable")
      const read = yield* Effect.flip(store.read(key))
      assert.strictEqual(read.reason._tag, "Unavailable")
      const changes = yield* Effect.flip(store.changes(key, deaf))
      assert.strictEqual(changes.reason._tag, "TimedOut")

      const query = yield* QueryStateMachine.make(other)
      yield* query.enqueue
      const wait = yield* Effect.forkChild(query.waitUntilComplete({ schedule: never }))
      yield* untilSubscribed(cluster, other)
      yield* query.cancel
      assert.strictEqual((yield* Fiber.join(wait)).state._tag, "Cancelled")
    }).pipe(
      Effect.scoped,
      Effect.provide(RedisStoreLive.layerCluster({ ...options, commandTimeout: "1 second" }))
    )
  }))

it.live("of very many subscriptions, none takes the longer the more there are, and no turn takes long", () =>
  Effect.gen(function*() {
    const cluster = yield* RedisCluster.acquire()
    const nodes = cluster.primaries.map(({ server: { host, port } }) => ({ host, port }))
    const keys = yield* Effect.replicateEffect(freshKey, 10_000)
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      let longestMillis = 0
      let isOver = false
      // The time that this process works counts, and not that for which others do.
      const turn = (before: NodeJS.CpuUsage) => {
        const { system, user } = process.cpuUsage(before)
        longestMillis = Math.max(longestMillis, (system + user) / 1000)
        if (!isOver) setImmediate(turn, process.cpuUsage())
      }
      setImmediate(turn, process.cpuUsage())
      yield* Effect.forEach(keys, (key) => store.changes(key, { onRecord: () => {}, onGap: () => {} }), {
        concurrency: 500,
        discard: true
      })
      isOver = true
      assert.isBelow(longestMillis, 500)
    }).pipe(Effect.scoped, Effect.provide(RedisStoreLive.layerCluster({ nodes, commandTimeout: "20 seconds" })))
  }))
