/** Queries with a typed result, when a result is gone or Redis has no memory. */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Option, Redacted, Ref, Schema } from "effect"
import { Query, RedisStore, RedisStoreLive } from "effect-query-state"
import { redisKeyOf } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"

const storeAt = (url: string) => RedisStoreLive.layer({ url: Redacted.make(url) })

/** A query whose runs are counted, and a process that can run it. */
const counted = Effect.fnUntraced(function*(name: string, options?: { readonly timeToLive?: string }) {
  const query = Query.make(name, {
    db: "warehouse",
    payload: { day: Schema.String },
    success: Schema.String,
    ...options as object
  })
  const runs = yield* Ref.make(0)
  const layer = query.toLayer(({ day }) => Effect.as(Ref.update(runs, (count) => count + 1), `of ${day}`))
  const scope = yield* Effect.scope
  const build = Layer.buildWithScope(Layer.fresh(layer), scope)
  const here = yield* build
  // Another process with the same store shares no claims.
  const there = yield* Effect.updateService(build, RedisStore.RedisStore, (store) => ({ ...store }))
  return { query, runs: Ref.get(runs), here, there }
})

/** The key of a result, for a name and a payload that need no escaping but the space between them. */
const resultKeyOf = ({ db, query }: { readonly db: string; readonly query: string }) =>
  `${redisKeyOf({ db, query: encodeURIComponent(query) })}:result`

it.live("a result that was deleted or evicted alone is made again, once for all who ask", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    yield* Effect.gen(function*() {
      const { here, query, runs, there } = yield* counted("Evicted")
      const payload = { day: "monday" }
      yield* Effect.provideContext(query.run(payload), here)
      const resultKey = resultKeyOf(yield* query.key(payload))
      const deleted = yield* Effect.promise(() => admin.del(resultKey))
      assert.strictEqual(deleted, 1)
      assert.deepStrictEqual(yield* query.poll(payload), Option.none())
      const results = yield* Effect.forEach(
        [here, there, here, there, here, there],
        (process) => Effect.provideContext(query.run(payload), process),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(results, results.map(() => "of monday"))
      assert.strictEqual(yield* runs, 2)
      assert.deepStrictEqual(yield* query.poll(payload), Option.some(Exit.succeed("of monday")))
    }).pipe(Effect.provide(storeAt(url)))
  }))

it.live("a result that expires between the message and the read is made again, and nobody fails", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    yield* Effect.gen(function*() {
      const { query, runs } = yield* counted("Expiring")
      const store = yield* RedisStore.RedisStore
      const payload = { day: "monday" }
      const key = yield* query.key(payload)
      const { record: { version: fence } } = yield* store.compareAndSet(key, {
        event: ["Queue", "Execute"],
        lease: "1 hour"
      })
      // The joiner reads what is left only once that has expired.
      const isGone = yield* Deferred.make<void>()
      const isAsked = yield* Deferred.make<void>()
      let subscriptions = 0
      const late = Layer.succeed(RedisStore.RedisStore, {
        ...store,
        changes: (key, listener) =>
          Effect.suspend(() => {
            subscriptions++
            return store.changes(key, listener)
          }),
        results: (key) =>
          Deferred.succeed(isAsked, undefined).pipe(
            Effect.andThen(Deferred.await(isGone)),
            Effect.andThen(store.results(key))
          )
      })
      const joiner = yield* counted("Expiring").pipe(
        Effect.flatMap(({ here, query, runs }) =>
          Effect.map(Effect.provideContext(query.run(payload), here), (result) => ({ result, runs }))
        ),
        Effect.provide(late),
        Effect.forkChild({ startImmediately: true })
      )
      const waiting = yield* Effect.forkChild(query.await(payload).pipe(Effect.provide(late)), {
        startImmediately: true
      })
      // Whoever subscribes has found the query pending.
      yield* Effect.repeat(Effect.yieldNow, { until: () => subscriptions === 2 })
      yield* store.compareAndSet(key, {
        event: "Finish",
        fence,
        timeToLive: "100 millis",
        result: { _tag: "Leave", text: `"gone"` }
      })
      yield* Deferred.await(isAsked)
      // Redis keeps a key for the rest of the millisecond in which a script takes its record for expired.
      yield* Effect.repeat(store.results(key), { until: ({ success }) => success === undefined })
      yield* Deferred.succeed(isGone, undefined)
      const { result, runs: runsOfJoiner } = yield* Fiber.join(joiner)
      assert.deepStrictEqual([result, yield* runsOfJoiner, yield* runs], ["of monday", 1, 0])
      // Whoever only waits gets the next result.
      assert.strictEqual(yield* Fiber.join(waiting), "of monday")
    }).pipe(Effect.provide(storeAt(url)))
  }))

it.live("at maxmemory a run that is under way leaves its result for those who wait, and a new one fails with OutOfMemory", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    const admin = yield* RedisAdmin.connect(url)
    yield* Effect.gen(function*() {
      const query = Query.make("Full", { db: "warehouse", payload: { day: Schema.String }, success: Schema.String })
      const begun = yield* Deferred.make<void>()
      const isFull = yield* Deferred.make<void>()
      const runs = yield* Ref.make(0)
      const layer = query.toLayer(() =>
        Ref.update(runs, (count) => count + 1).pipe(
          Effect.andThen(Deferred.succeed(begun, undefined)),
          Effect.andThen(Deferred.await(isFull)),
          Effect.as("x".repeat(50_000))
        )
      )
      const scope = yield* Effect.scope
      const build = Layer.buildWithScope(Layer.fresh(layer), scope)
      const here = yield* build
      const there = yield* Effect.updateService(build, RedisStore.RedisStore, (store) => ({ ...store }))
      const payload = { day: "monday" }
      const running = yield* Effect.forkChild(Effect.provideContext(query.run(payload), here))
      yield* Deferred.await(begun)
      yield* Effect.promise(() => admin.config("SET", "maxmemory", "500kb"))
      const joining = yield* Effect.forkChild(Effect.provideContext(query.run(payload), there), {
        startImmediately: true
      })
      const error = yield* Effect.flip(Effect.provideContext(query.run({ day: "tuesday" }), here))
      assert.strictEqual(error._tag === "RedisStoreError" && error.reason._tag, "OutOfMemory")
      yield* Deferred.succeed(isFull, undefined)
      const results = [yield* Fiber.join(running), yield* Fiber.join(joining), yield* query.await(payload)]
      assert.deepStrictEqual(results, results.map(() => "x".repeat(50_000)))
      // What is there can be had without a claim.
      assert.strictEqual(yield* Effect.provideContext(query.run(payload), there), "x".repeat(50_000))
      assert.strictEqual(yield* Ref.get(runs), 1)
    }).pipe(Effect.provide(storeAt(url)))
  }))

it.live("10,000 payloads are 10,000 queries, each run once with a result of its own", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire()
    yield* Effect.gen(function*() {
      const { here, query, runs } = yield* counted("Many")
      const days = Array.from({ length: 10_000 }, (_, index) => `day ${index}`)
      for (let round = 0; round < 2; round++) {
        const results = yield* Effect.forEach(
          days,
          (day) => Effect.provideContext(query.run({ day }), here),
          { concurrency: 500 }
        )
        assert.deepStrictEqual(results, days.map((day) => `of ${day}`))
      }
      assert.strictEqual(yield* runs, days.length)
    }).pipe(Effect.provide(storeAt(url)))
  }), 60_000)
