/** Connections that break and are made again while waits are open. Their schedule ends none of these. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Redacted, Schedule, type Scope, Stream } from "effect"
import {
  type QueryKey,
  type QueryRecord,
  QueryStateMachine,
  RedisStore,
  RedisStoreFaults,
  RedisStoreLive
} from "effect-query-state"
import type { Redis } from "ioredis"
import * as Proxy from "../../support/Proxy.ts"
import { driveTo, freshKey, life } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"
import * as ServerStats from "../../support/ServerStats.ts"

type Stores = RedisStore.RedisStore | RedisStoreFaults.RedisStoreFaults

interface World {
  readonly admin: Redis
  readonly proxy: Proxy.Proxy
  /** A store that is connected directly. The store of the context is behind the proxy. */
  readonly direct: RedisStore.RedisStore["Service"]
}

const storeAt = ({ url }: { readonly url: string }) => RedisStoreLive.layer({ url: Redacted.make(url) })

const inWorld = <A, E>(test: (world: World) => Effect.Effect<A, E, Stores | Scope.Scope>) =>
  Effect.gen(function*() {
    const server = yield* RedisServer.acquire()
    const proxy = yield* Proxy.acquire(server)
    const admin = yield* RedisAdmin.connect(server.url)
    const direct = Context.get(yield* Layer.build(storeAt(server)), RedisStore.RedisStore)
    return yield* Effect.provide(test({ admin, direct, proxy }), RedisStoreFaults.layer(storeAt(proxy)))
  })

/** Begins a wait a query, and goes on when each has read, subscribed and read again. */
const openWaits = Effect.fnUntraced(function*(
  count: number,
  schedule: Schedule.Schedule<unknown> = Schedule.spaced("1 day")
) {
  const store = yield* RedisStore.RedisStore
  const { calls } = yield* RedisStoreFaults.RedisStoreFaults
  const reads = Effect.map(calls, (calls) => calls.filter(({ operation }) => operation === "read").length)
  const keys = yield* Effect.replicateEffect(freshKey, count)
  yield* Effect.forEach(keys, (key) => driveTo(key, "Executing"))
  const before = yield* reads
  const waits = yield* Effect.forEach(keys, (key) =>
    QueryStateMachine.make(key).pipe(
      Effect.flatMap((query) => query.waitUntilComplete({ schedule })),
      Effect.forkChild
    ))
  yield* Effect.repeat(Effect.delay(reads, 1), { until: (now) => now - before >= 2 * count })
  // What is answered after the reads of the waits are.
  yield* store.readMany(keys)
  return { keys, waits }
})

const until = (holds: () => boolean) => Effect.repeat(Effect.delay(Effect.sync(holds), 1), { until: (isSo) => isSo })

const finish = (store: RedisStore.RedisStore["Service"], keys: ReadonlyArray<QueryKey.QueryKey>) =>
  Effect.forEach(keys, (key) => Effect.map(store.compareAndSet(key, { event: "Finish" }), ({ record }) => record))

it.live.each(
  [
    ["notifications", "commands"],
    ["commands", "notifications"]
  ] as const
)(
  "waits whose connection for %s breaks, and then that for %s, end with the current outcome",
  ([first, second]) =>
    inWorld(({ direct, proxy }) =>
      Effect.gen(function*() {
        const { keys, waits } = yield* openWaits(30)
        yield* proxy.refuse
        yield* proxy.cut(first)
        const early = yield* finish(direct, keys.slice(0, 10))
        yield* proxy.cut(second)
        const late = yield* finish(direct, keys.slice(10, 20))
        yield* proxy.pass
        const after = yield* finish(direct, keys.slice(20))
        assert.deepStrictEqual(yield* Fiber.joinAll(waits), [...early, ...late, ...after])
      })
    )
)

it.live.each(
  [
    ["PUBSUB", "NORMAL"],
    ["NORMAL", "PUBSUB"]
  ] as const
)(
  "waits whose connections the server kills repeatedly, first %s, then %s, end with their outcomes",
  (types) =>
    inWorld(({ admin, direct, proxy }) =>
      Effect.gen(function*() {
        const { keys, waits } = yield* openWaits(10)
        const finished: Array<QueryRecord.QueryRecord> = []
        for (const key of keys) {
          yield* until(() => proxy.open("notifications") === 1)
          for (const type of types) yield* Effect.promise(() => admin.call("CLIENT", "KILL", "TYPE", type))
          finished.push(...yield* finish(direct, [key]))
        }
        assert.deepStrictEqual(yield* Fiber.joinAll(waits), finished)
      })
    )
)

it.live("a wait reads again only after its channel is subscribed again", () =>
  inWorld(({ admin, direct, proxy }) =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const { keys, waits } = yield* openWaits(1)
      yield* proxy.hold("subscribe")
      yield* proxy.cut("notifications")
      yield* until(() => proxy.open("notifications") === 1)
      // A read that is sent too early is answered before this.
      yield* store.readMany(keys)
      assert.strictEqual((yield* ServerStats.channels(admin)).size, 0)
      const finished = yield* finish(direct, keys)
      yield* proxy.pass
      assert.deepStrictEqual(yield* Fiber.joinAll(waits), finished)
    })
  ))

it.live("waits without further notifications end by their schedule", () =>
  inWorld(({ direct, proxy }) =>
    Effect.gen(function*() {
      const { keys, waits } = yield* openWaits(10, Schedule.spaced("50 millis"))
      yield* proxy.halfOpen("notifications")
      const finished = yield* finish(direct, keys)
      assert.deepStrictEqual(yield* Fiber.joinAll(waits), finished)
      assert.strictEqual(proxy.open("notifications"), 1)
    })
  ))

it.live("changes observed while connections break reach the last change", () =>
  inWorld(({ direct, proxy }) =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      const seen: Array<QueryRecord.QueryRecord> = []
      yield* Effect.forkChild(Stream.runForEach(query.changes, (record) => Effect.sync(() => seen.push(record))))

      const made: Array<QueryRecord.QueryRecord> = [yield* direct.read(key)]
      for (let lives = 0; lives < 4; lives++) {
        for (const [step, event] of life.entries()) {
          yield* proxy.cut(step % 2 === 0 ? "notifications" : "all")
          made.push((yield* direct.compareAndSet(key, { event })).record)
        }
        yield* until(() => seen.at(-1)?.version === made.at(-1)?.version)
      }
      assert.deepStrictEqual(seen, made.filter(({ version }) => seen.some((record) => record.version === version)))
    })
  ))
