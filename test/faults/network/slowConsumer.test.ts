/** Subscribers that read more slowly than notifications arrive. */
import { assert, it } from "@effect/vitest"
import { Array as Arr, Effect, Fiber, Queue, Redacted, Schedule, Stream } from "effect"
import { type QueryRecord, QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import * as Notifications from "../../support/Notifications.ts"
import * as Proxy from "../../support/Proxy.ts"
import { driveTo, freshKey, redisKeyOf } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"
import * as ServerStats from "../../support/ServerStats.ts"

it.live(
  "a subscriber dropped for its backlog subscribes again and reads what it missed",
  () =>
    Effect.gen(function*() {
      const server = yield* RedisServer.acquire({ args: ["--client-output-buffer-limit", "pubsub 32kb 16kb 5"] })
      const proxy = yield* Proxy.acquire(server)
      const admin = yield* RedisAdmin.connect(server.url)
      yield* Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const keys = yield* Effect.replicateEffect(freshKey, 20)
        yield* Effect.forEach(keys, (key) => driveTo(key, "Executing"))
        const waits = yield* Effect.forEach(keys, (key) =>
          QueryStateMachine.make(key).pipe(
            Effect.flatMap((query) => query.waitUntilComplete({ schedule: Schedule.spaced("1 day") })),
            Effect.forkChild
          ))
        yield* Effect.repeat(ServerStats.channels(admin), { until: ({ size }) => size === keys.length })

        yield* proxy.pause("notifications")
        // The sockets in between take some megabytes before anything stays with the server.
        const [noisy = yield* freshKey] = keys
        const noise = "x".repeat(64 * 1024)
        yield* Effect.repeat(Effect.promise(() => admin.publish(redisKeyOf(noisy), noise)), {
          until: (receivers) => receivers === 0
        })
        const finished = yield* Effect.forEach(keys, (key) => store.compareAndSet(key, { event: "Finish" }))
        yield* proxy.pass
        assert.deepStrictEqual(yield* Fiber.joinAll(waits), finished.map(({ record }) => record))
      }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(proxy.url) })))
    }),
  { timeout: 60_000 }
)

it.live("a slow consumer gets one record for many changes", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      const notifications = yield* Notifications.subscribe(key)
      const seen = yield* Queue.make<QueryRecord.QueryRecord>({ capacity: 1 })
      yield* Effect.forkChild(Stream.runForEach(query.changes, (record) => Queue.offer(seen, record)))
      const taken = [yield* Queue.take(seen)]

      const messages = Array.from({ length: 50_000 }, (_, index) => `${index} queued`)
      yield* Effect.forEach(
        Arr.chunksOf(messages, 1_000),
        (chunk) => Effect.promise(() => Promise.all(chunk.map((message) => admin.publish(redisKeyOf(key), message)))),
        { discard: true }
      )
      const life = ["Queue", "Execute", "Finish", "Reset", "FinishReset", "Queue", "Execute", "Finish"] as const
      yield* Effect.forEach(life, (event) => store.compareAndSet(key, { event }))
      const last = yield* store.read(key)
      yield* Effect.repeat(notifications.next, { until: (version) => version === last.version })

      while (taken.at(-1)?.version !== last.version) taken.push(yield* Queue.take(seen))
      // The first, one for which there was room, one that waited for room, and the last.
      assert.isAtMost(taken.length, 4)
    }).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })))
  }))
