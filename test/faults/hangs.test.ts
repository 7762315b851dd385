/** A server that is there and does not answer, or is not there for a while. */
import { assert, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Redacted, Result, Stream } from "effect"
import { QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import * as Hints from "../support/hints.ts"
import * as Proxy from "../support/Proxy.ts"
import { driveTo, freshKey, told } from "../support/queries.ts"
import * as RedisAdmin from "../support/redisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"
import * as Subscribed from "../support/subscribed.ts"

const storeAt = (url: string, commandTimeout: "300 millis" | "5 seconds") =>
  RedisStoreLive.layer({ url: Redacted.make(url), commandTimeout })

const directTo = ({ url }: { readonly url: string }) =>
  Effect.map(Layer.build(storeAt(url, "5 seconds")), (context) => Context.get(context, RedisStore.RedisStore))

it.live("work whose renewals hang is interrupted before its lease has lapsed, and has lost it", () =>
  Effect.gen(function*() {
    const server = yield* RedisServer.acquire()
    const proxy = yield* Proxy.acquire(server)
    const direct = yield* directTo(server)
    yield* Effect.gen(function*() {
      const key = yield* freshKey
      yield* driveTo(key, "Queued")
      const query = yield* QueryStateMachine.make(key)
      const started = yield* Deferred.make<void>()
      const whenInterrupted = yield* Deferred.make<string>()
      const owned = yield* Effect.forkChild(
        Effect.flip(query.executing(
          () =>
            Deferred.succeed(started, undefined).pipe(
              Effect.andThen(Effect.never),
              // The store settles a lapsed lease when it is asked.
              Effect.onInterrupt(() =>
                Effect.flatMap(Effect.orDie(direct.read(key)), ({ state }) =>
                  Deferred.succeed(whenInterrupted, state._tag))
              )
            ),
          { lease: "2 seconds" }
        ))
      )
      yield* Deferred.await(started)
      yield* proxy.blackHole
      assert.strictEqual(yield* Deferred.await(whenInterrupted), "Executing")
      assert.strictEqual((yield* Fiber.join(owned))._tag, "LeaseLost")
    }).pipe(Effect.provide(storeAt(proxy.url, "5 seconds")))
  }))

it.live("every call that hangs ends with an error that says so", () =>
  Effect.gen(function*() {
    const server = yield* RedisServer.acquire()
    const proxy = yield* Proxy.acquire(server)
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* proxy.blackHole
      const calls = {
        read: store.read(key),
        Queue: store.compareAndSet(key, { event: "Queue" }),
        "renew the lease on": store.renew(key, 1, "1 minute"),
        "subscribe to": Effect.scoped(store.changes(key, { ...Hints.deaf }))
      }
      const errors = yield* Effect.forEach(
        Object.values<Effect.Effect<unknown, Parameters<typeof told>[0]>>(calls),
        (call) => Effect.map(Effect.flip(call), told),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(errors, Object.keys(calls).map((operation) => ({ _tag: "TimedOut", operation, key })))

      const failed = (operation: string) => ({ _tag: "TimedOut", operation, key })
      const [read] = yield* store.readMany([key])
      assert.deepStrictEqual(read && Result.isFailure(read) ? told(read.failure) : read, failed("read"))
      const [queued] = yield* store.compareAndSetMany([[key, { event: "Queue" }]])
      assert.deepStrictEqual(queued && Result.isFailure(queued) ? told(queued.failure) : queued, failed("Queue"))
      const listing = yield* Effect.flip(Stream.runCollect(store.keys(key.db)))
      assert.strictEqual(told(listing)["_tag"], "TimedOut")
    }).pipe(Effect.provide(storeAt(proxy.url, "300 millis")))
  }))

it.live("a server that is away for a while and comes back is used by the same store again, notifications and all", () =>
  Effect.gen(function*() {
    const first = yield* RedisServer.acquire()
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const hints = yield* Hints.subscribe(key)
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
      yield* Effect.repeat(Effect.delay(Subscribed.channels(admin), 1), { until: ({ size }) => size === 1 })
      const { record } = yield* store.compareAndSet(key, { event: "Queue" })
      yield* Effect.repeat(hints.next, { until: (version) => version === record.version })
    }).pipe(Effect.scoped, Effect.provide(storeAt(first.url, "300 millis")))
  }))
