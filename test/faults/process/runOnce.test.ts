/** Ten processes run the same hundred queries at once. */
import { assert, it } from "@effect/vitest"
import { Array as Arr, Context, Effect, Layer, Random, Redacted } from "effect"
import { type QueryKey, QueryState, RedisStore, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import { inject } from "vitest"
import { type Outcome, storage, type Task, valueOf } from "../../fixtures/workerProtocol.ts"
import { pathBetween } from "../../support/paths.ts"
import * as PublishedNotifications from "../../support/PublishedNotifications.ts"
import { freshKey } from "../../support/queries.ts"
import * as RawRecord from "../../support/RawRecord.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as WorkerProcess from "../../support/WorkerProcess.ts"

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) })

class Workers extends Context.Service<Workers, ReadonlyArray<WorkerProcess.Worker>>()("test/faults/Workers") {
  static readonly layer = Layer.effect(
    Workers,
    Effect.all(Arr.makeBy(10, () => WorkerProcess.spawn(inject("redisUrl"))), { concurrency: "unbounded" })
  )
}

const prepare = Effect.gen(function*() {
  const keys = yield* Effect.replicateEffect(freshKey, 100)
  const [{ db } = assert.fail()] = keys
  return {
    keys,
    notifications: yield* PublishedNotifications.listen(inject("redisUrl"), db),
    redis: yield* RedisAdmin.connect(inject("redisUrl"))
  }
})

/** What each worker was answered for a query, when all of them were. */
const answersFor = (key: QueryKey.QueryKey, workers: ReadonlyArray<WorkerProcess.Worker>) =>
  Effect.forEach(workers, ({ news }) => Effect.map(news(key, "ended"), ({ outcome }) => outcome))

const valueUnder = (fence: number, key: QueryKey.QueryKey): Outcome => ({
  _tag: "Succeeded",
  value: valueOf(key, fence)
})

/** The fences under which a query was executed, in order. */
const executionsOf = (redis: Redis, key: QueryKey.QueryKey) =>
  Effect.map(Effect.promise(() => redis.lrange(storage.fences(key), 0, -1)), (fences) => fences.map(Number))

const wireNames = QueryState.wireNames
/** Each version was notified once, and leads on from the one before; a query that completed stays so. */
const assertLawful = (notified: ReadonlyArray<PublishedNotifications.Notification>) => {
  const versions = notified.map(({ version }) => version)
  assert.deepStrictEqual(versions, Arr.dedupe(versions).toSorted((a, b) => a - b))
  const states = [wireNames.Known, ...notified.map(({ state }) => state)]
  const tags = states.map((state) => QueryState.fromWireName(state) ?? assert.fail(`there is no state ${state}`))
  const jumps = Arr.zip(tags, tags.slice(1))
  assert.deepStrictEqual(jumps.filter(([from, to]) => pathBetween(from, to) === undefined), [])
  assert.deepStrictEqual(states.slice(states.indexOf(wireNames.Completed)), [wireNames.Completed])
}

it.layer(Workers.layer, { excludeTestServices: true })("A hundred queries that ten processes run at once", (it) => {
  it.effect("are executed once each, and every process gets the values", () =>
    Effect.gen(function*() {
      const workers = yield* Workers
      const { notifications, keys, redis } = yield* prepare
      const tasks = keys.map((key): Task => ({ key, by: "run", stores: 0 }))
      yield* Effect.forEach(workers, ({ start }) => start(tasks))

      yield* Effect.forEach(keys, (key) =>
        Effect.gen(function*() {
          const answers = yield* answersFor(key, workers)
          const notified = yield* notifications.of(key)
          assert.deepStrictEqual(notified.map(({ state }) => state), ["executing", "completed"])
          assertLawful(notified)
          const fence = notified[0]?.version ?? Number.NaN
          assert.deepStrictEqual(yield* executionsOf(redis, key), [fence])
          assert.deepStrictEqual(answers, workers.map(() => valueUnder(fence, key)))
        }))
    }), 60_000)

  it.effect("complete once each, although a quarter of the processes are killed", () =>
    Effect.gen(function*() {
      const workers = yield* Workers
      const [victims, survivors] = Arr.splitAt(workers, Math.ceil(workers.length / 4))
      const { notifications, keys, redis } = yield* prepare
      const taskFor = (key: QueryKey.QueryKey): Task => ({ key, by: "run", leaseMillis: 2000, stores: 50 })

      // So that they are known to leave something behind, the victims hold a query each for as long as they live.
      const held = Arr.zip(victims, keys)
      yield* Effect.forEach(held, ([{ reached, start }, key]) =>
        Effect.andThen(start([{ ...taskFor(key), pausesAt: ["in work"] }]), reached(key, "in work")))

      // Each begins elsewhere, so that all have something to do.
      const startAll = Effect.forEach(workers, ({ start }, index) => {
        const others = keys.filter((key) =>
          held[index]?.[1] !== key
        )
        return start(Arr.rotate(others, -index * 10).map(taskFor), 10)
      })
      const moments = yield* Effect.replicateEffect(Random.nextIntBetween(1, 40), victims.length)
      const kills = Arr.zipWith(victims, moments, ({ kill, until }, moment) =>
        Effect.gen(function*() {
          const soFar = yield* until((reports) => reports.length)
          yield* until((reports) => reports.length >= soFar + moment || undefined)
          yield* kill
        }))
      yield* Effect.all([startAll, ...kills], { concurrency: "unbounded" })

      const executions = yield* Effect.forEach(keys, (key) =>
        Effect.gen(function*() {
          const answers = yield* answersFor(key, survivors)
          const notified = yield* notifications.of(key)
          assertLawful(notified)
          const claims = notified.filter(({ state }) => state === "executing").map(({ version }) => version)
          const executions = yield* executionsOf(redis, key)
          assert.includeMembers(claims, executions)
          assert.deepStrictEqual(executions, Arr.dedupe(executions))
          const [fence = assert.fail()] = claims.slice(-1)
          assert.deepStrictEqual(answers, survivors.map(() => valueUnder(fence, key)))
          return executions.length
        }))
      assert.deepStrictEqual(executions.slice(0, held.length).filter((times) => times < 2), [])
    }).pipe(Random.withSeed("a fourth")), 60_000)

  it.effect("are not run again by a process that saw a lease lapse but resets too late", () =>
    Effect.gen(function*() {
      const [first = assert.fail(), second = assert.fail()] = Arr.takeRight(yield* Workers, 2)
      const { notifications, keys: [key = assert.fail()], redis } = yield* prepare
      const store = yield* RedisStore.RedisStore
      yield* store.compareAndSet(key, { event: "Queue", lease: "1 millis" })
      yield* RawRecord.lapse(redis, key)

      const task: Task = { key, by: "run", stores: 0 }
      yield* second.start([{ ...task, pausesAt: ["before Reset"] }])
      yield* second.reached(key, "before Reset")
      yield* first.start([task])
      const { outcome } = yield* first.news(key, "ended")
      yield* second.release(key)
      assert.deepStrictEqual(yield* answersFor(key, [second]), [outcome])
      assertLawful(yield* notifications.of(key))
    }).pipe(Effect.provide(StoreLayer)))
})
