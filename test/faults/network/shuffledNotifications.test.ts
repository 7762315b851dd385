/** Notifications that are late, doubled, out of order or from other programs. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Random, Redacted, Schedule, Stream } from "effect"
import {
  type QueryKey,
  QueryRecord,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStore,
  RedisStoreFaults,
  RedisStoreLive
} from "effect-query-state"
import { inject } from "vitest"
import * as Notifications from "../../support/Notifications.ts"
import { driveTo, freshKey, life, redisKeyOf } from "../../support/queries.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"

const Stores = RedisStoreFaults.layer(RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) }))

/** Drops some notifications, doubles some, and mixes others with older ones, in any order. */
const disturb = Effect.gen(function*() {
  const random = yield* Random.Random
  const { injectNotifications } = yield* RedisStoreFaults.RedisStoreFaults
  const published: Array<QueryRecord.QueryRecord> = []
  const oneOf = <A>(choices: ReadonlyArray<A>) => choices[Math.floor(random.nextDoubleUnsafe() * choices.length)]
  yield* injectNotifications((record) => {
    published.push(record)
    const older = oneOf(published) ?? record
    return oneOf([[record], [record, record], [older, record], [record, older, older], [older], ["gap"], []]) ?? []
  })
})

const moveOn = Effect.fnUntraced(function*(key: QueryKey.QueryKey, event: typeof life[number] | "Cancel") {
  const store = yield* RedisStore.RedisStore
  return (yield* store.compareAndSet(key, { event })).record
})

/** Observes a query until it is Cancelled. */
const observe = Effect.fnUntraced(function*(query: QueryStateMachine.QueryStateMachine) {
  const seen: Array<QueryRecord.QueryRecord> = []
  yield* query.changes.pipe(
    Stream.takeUntil(({ state }) => state._tag === "Cancelled"),
    Stream.runForEach((record) => Effect.sync(() => seen.push(record)))
  )
  return seen
})

/** The records of which some were seen, in their order. */
const ofThose = (made: ReadonlyArray<QueryRecord.QueryRecord>, seen: ReadonlyArray<QueryRecord.QueryRecord>) =>
  made.filter(({ version }) => seen.some((record) => record.version === version))

it.layer(Stores, { excludeTestServices: true })("Notifications", (it) => {
  it.effect("that are lost, late, doubled and shuffled show real changes in order, and the last one", () =>
    Effect.gen(function*() {
      yield* disturb
      const { heal } = yield* RedisStoreFaults.RedisStoreFaults
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      const observers = yield* Effect.replicateEffect(Effect.forkChild(observe(query)), 10)
      const made = [QueryRecord.absent(key)]
      for (let lives = 0; lives < 50; lives++) {
        for (const event of life) {
          made.push(yield* moveOn(key, event))
          if (lives % 2 === 0) yield* Effect.sleep(yield* Random.nextIntBetween(0, 2))
        }
      }
      yield* heal
      made.push(yield* moveOn(key, "Queue"), yield* moveOn(key, "Cancel"))
      for (const seen of yield* Fiber.joinAll(observers)) {
        assert.deepStrictEqual(seen, ofThose(made, seen))
        assert.deepStrictEqual(seen.at(-1), made.at(-1))
      }
    }))

  it.effect("that are lost, late, doubled and shuffled end a wait with its own outcome, not an earlier one", () =>
    Effect.gen(function*() {
      yield* disturb
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      const wait = query.waitUntilComplete({ schedule: Schedule.spaced("20 millis") })
      for (let lives = 0; lives < 50; lives++) {
        yield* moveOn(key, "Queue")
        const early = yield* Effect.replicateEffect(Effect.forkChild(wait), 5)
        yield* Effect.sleep(yield* Random.nextIntBetween(0, 3))
        yield* moveOn(key, "Execute")
        const late = yield* Effect.replicateEffect(Effect.forkChild(wait), 5)
        yield* Effect.sleep(yield* Random.nextIntBetween(0, 3))
        const finished = yield* moveOn(key, "Finish")
        const ends = yield* Fiber.joinAll([...early, ...late])
        assert.deepStrictEqual(ends, Array.from(ends, () => finished))
        yield* moveOn(key, "Reset")
        yield* moveOn(key, "FinishReset")
      }
    }))

  it.effect("that are stale, cut, enormous or not understood end no wait and show no change", () =>
    Effect.gen(function*() {
      const { heal } = yield* RedisStoreFaults.RedisStoreFaults
      yield* heal
      const store = yield* RedisStore.RedisStore
      const publisher = yield* RedisAdmin.connect(inject("redisUrl"))
      const key = yield* freshKey
      const channel = redisKeyOf(key)
      const executing = yield* driveTo(key, "Executing")
      const query = yield* QueryStateMachine.make(key)
      const notifications = yield* Notifications.subscribe(key)
      const wait = yield* Effect.forkChild(query.waitUntilComplete({ schedule: Schedule.spaced("1 day") }))
      const observer = yield* Effect.forkChild(observe(query))

      const newer = executing.version + 1
      const forged = [
        ...[0, 1, executing.version - 1, executing.version].flatMap((
          version
        ) => [`${version}`, `${version} completed`, `${version} known`]),
        ...[-1, 2 ** 53 - 1, 2 ** 53].map((version) => `${version} completed`),
        ...["", " 2", " 2\n\n\n\n\n\n"].map((rest) => `${newer} Completed${rest}`),
        `${newer} paused`,
        `${newer} completed 2`,
        `${newer} completed\n`,
        `${newer} completed\n\n\n\n`,
        `${newer} completed\nsoon\n\n\n\n\n`,
        `${newer} completed\n\n${newer}\n\n\n\n`,
        `${newer} completed\n\n\n\n\n\n${"x".repeat(100_000)}`,
        ..."|\u0000| |completed|NaN|Infinity|-Infinity completed|1e400 completed|{}|0x10 errored".split("|"),
        "9".repeat(100_000)
      ]
      for (const message of [...forged, Buffer.from([0xff, 0xfe, 0x00])]) {
        yield* Effect.promise(() => publisher.publish(channel, message))
      }
      // Messages come in order: when this one is here, the others have been, and then the reads that they led to.
      const last = executing.version - 2
      const heard = yield* Effect.forkChild(
        Effect.repeat(notifications.next, { until: (version) => version === last }),
        { startImmediately: true }
      )
      yield* Effect.promise(() => publisher.publish(channel, `${last} queued`)).pipe(
        Effect.andThen(Effect.sleep(1)),
        Effect.repeat({ until: () => heard.pollUnsafe() !== undefined })
      )
      yield* store.read(key)
      assert.deepStrictEqual([wait.pollUnsafe(), observer.pollUnsafe()], [undefined, undefined])

      const finished = yield* moveOn(key, "Finish")
      assert.deepStrictEqual(yield* Fiber.join(wait), finished)
      const made = [executing, finished]
      for (const event of ["Reset", "FinishReset", "Queue", "Cancel"] as const) made.push(yield* moveOn(key, event))
      const seen = yield* Fiber.join(observer)
      assert.deepStrictEqual(seen, ofThose(made, seen))
    }))

  it.effect("that are newer are believed as a read is: a user who may publish may write the record, too", () =>
    Effect.gen(function*() {
      const { heal } = yield* RedisStoreFaults.RedisStoreFaults
      yield* heal
      const publisher = yield* RedisAdmin.connect(inject("redisUrl"))
      const key = yield* freshKey
      const { version } = yield* driveTo(key, "Executing")
      const query = yield* QueryStateMachine.make(key)
      const notifications = yield* Notifications.subscribe(key)
      const wait = yield* Effect.forkChild(query.waitUntilComplete({ schedule: Schedule.spaced("1 day") }))
      const reason = JSON.stringify({ _tag: "Failed", error: "SqlError", message: "no table" })
      const publish = Effect.promise(() =>
        publisher.publish(`query-state:{${key.db}:${key.query}}`, `${version + 5} errored\n\n\n${reason}\n\n\n\n\n\n\n`)
      )
      yield* Effect.repeat(Effect.andThen(publish, Effect.sleep(1)), { until: () => wait.pollUnsafe() !== undefined })
      const { state } = yield* Fiber.join(wait)
      assert.deepStrictEqual(
        state,
        QueryState.make("Errored", { reason: Reason.failed({ error: "SqlError", message: "no table" }) })
      )
      assert.strictEqual(yield* notifications.next, version + 5)
    }))
})
