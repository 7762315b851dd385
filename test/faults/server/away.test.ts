/** A server with an outage. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Redacted, Schedule } from "effect"
import { QueryRecord, QueryStateMachine, RedisStore, RedisStoreFaults, RedisStoreLive } from "effect-query-state"
import * as Notifications from "../../support/Notifications.ts"
import * as Proxy from "../../support/Proxy.ts"
import { driveTo, freshKey } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as RedisServer from "../../support/RedisServer.ts"
import * as ServerStats from "../../support/ServerStats.ts"

it.live("a server that returns after an outage is used by the same store again, with notifications", () =>
  Effect.gen(function*() {
    const first = yield* RedisServer.acquire()
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const notifications = yield* Notifications.subscribe(key)
      yield* first.stop
      // Long enough for ioredis to try again less and less often.
      const errors = yield* Effect.replicateEffect(Effect.flip(store.read(key)), 5)
      assert.deepStrictEqual(
        errors.map(({ reason }) => ["ConnectionLost", "TimedOut"].includes(reason._tag)),
        errors.map(() => true)
      )
      const { url } = yield* RedisServer.acquire({ port: first.port })
      yield* Effect.retry(store.read(key), { while: ({ reason }) => reason._tag !== "InvalidInput" })
      const admin = yield* RedisAdmin.connect(url)
      yield* Effect.repeat(Effect.delay(ServerStats.channels(admin), 1), { until: ({ size }) => size === 1 })
      const { record } = yield* store.compareAndSet(key, { event: "Queue" })
      yield* Effect.repeat(notifications.next, { until: (version) => version === record.version })
    }).pipe(
      Effect.scoped,
      Effect.provide(RedisStoreLive.layer({ url: Redacted.make(first.url), commandTimeout: "300 millis" }))
    )
  }))

it.live("waits survive an outage longer than commandTimeout and end with their outcomes", () =>
  Effect.gen(function*() {
    const server = yield* RedisServer.acquire()
    const proxy = yield* Proxy.acquire(server)
    const direct = Context.get(
      yield* Layer.build(RedisStoreLive.layer({ url: Redacted.make(server.url) })),
      RedisStore.RedisStore
    )
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const { calls } = yield* RedisStoreFaults.RedisStoreFaults
      const reads = Effect.map(calls, (calls) => calls.filter(({ operation }) => operation === "read").length)
      const keys = yield* Effect.replicateEffect(freshKey, 10)
      yield* Effect.forEach(keys, (key) => driveTo(key, "Executing"))
      const waits = yield* Effect.forEach(keys, (key) =>
        QueryStateMachine.make(key).pipe(
          // Nothing but a notification, or that it may have been missed, can end this wait.
          Effect.flatMap((query) => query.waitUntilComplete({ schedule: Schedule.spaced("1 hour") })),
          Effect.forkChild
        ))
      // Each reads, subscribes, and reads again; what is answered later is answered when they have been.
      yield* Effect.repeat(Effect.delay(reads, 1), { until: (count) => count === 2 * keys.length })
      yield* store.readMany(keys)
      yield* proxy.refuse
      yield* proxy.cut("all")
      const finished = yield* Effect.forEach(keys, (key) => direct.compareAndSet(key, { event: "Finish" }))
      // Each asks for as long as a command may take.
      yield* Effect.replicateEffect(Effect.flip(store.read(yield* freshKey)), 2)
      assert.deepStrictEqual(waits.map((waiter) => waiter.pollUnsafe()), waits.map(() => undefined))
      yield* proxy.pass
      assert.deepStrictEqual(yield* Fiber.joinAll(waits), finished.map(({ record }) => record))
      const { changed } = yield* store.compareAndSet(yield* freshKey, { event: "Queue" })
      assert.isTrue(changed)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        RedisStoreFaults.layer(RedisStoreLive.layer({ url: Redacted.make(proxy.url), commandTimeout: "1 second" }))
      )
    )
  }))

it.live("when a server returns empty, waits end and holders get LeaseLost", () =>
  Effect.gen(function*() {
    const first = yield* RedisServer.acquire()
    yield* Effect.gen(function*() {
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      yield* query.enqueue
      const schedule = Schedule.spaced("1 hour")
      const waiter = yield* Effect.forkChild(query.waitUntilComplete({ schedule }), { startImmediately: true })
      const work = Effect.gen(function*() {
        yield* first.stop
        yield* RedisServer.acquire({ port: first.port })
        return yield* Effect.never
      })
      const error = yield* Effect.flip(query.withExecution(() => work, { lease: "10 seconds" }))
      assert.deepStrictEqual(error._tag === "LeaseLost" && error.record, QueryRecord.absent(key))
      assert.deepStrictEqual(yield* Fiber.join(waiter), QueryRecord.absent(key))
    }).pipe(
      Effect.scoped,
      Effect.provide(RedisStoreLive.layer({ url: Redacted.make(first.url), commandTimeout: "20 seconds" }))
    )
  }))
