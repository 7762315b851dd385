/** The stream of the changes of one query, in virtual time. */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Schedule, Stream } from "effect"
import {
  type QueryKey,
  QueryRecord,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStore,
  RedisStoreError,
  RedisStoreFaults
} from "effect-query-state"
import { inMemory } from "../support/inMemory.ts"
import { withOpenSubscriptions } from "../support/openSubscriptions.ts"
import { failedWith, outcomeOf } from "../support/outcome.ts"
import { queryThatIs } from "../support/timedQuery.ts"
import type * as Timeline from "../support/Timeline.ts"

/** A Queued query whose changes are collected from the beginning of the timeline, each with its time. */
const observed = Effect.fnUntraced(function*(choose?: Timeline.Choose) {
  const { key, query, record: queued, timeline } = yield* queryThatIs("Queued", choose && { choose })
  const records: Array<QueryRecord.QueryRecord> = []
  const seen = (record: QueryRecord.QueryRecord) =>
    Effect.andThen(timeline.note(record.state._tag), Effect.sync(() => records.push(record)))
  const fiber = yield* timeline.at(0, Stream.runForEach(query.changes, seen))
  return { key, query, queued, timeline, records, fiber, states: () => timeline.only(...QueryState.tags) }
})

const rise = (records: ReadonlyArray<QueryRecord.QueryRecord>) => {
  const versions = records.map(({ version }) => version)
  assert.deepStrictEqual(versions, [...new Set(versions)].toSorted((left, right) => left - right))
}

inMemory(
  "changes begin with the current record and continue with each notification at once",
  () =>
    Effect.gen(function*() {
      const { query, queued, records, states, timeline } = yield* observed()
      yield* timeline.at("1 second", query.execute)
      yield* timeline.at("2 seconds", query.finish)
      yield* timeline.at("3 seconds", query.reset)
      yield* timeline.until("10 seconds")
      assert.deepStrictEqual(states(), [[0, "Queued"], [1_000, "Executing"], [2_000, "Completed"], [
        3_000,
        "Resetting"
      ]])
      assert.deepStrictEqual([records[0], records.at(-1)], [queued, yield* query.record])
      rise(records)
    })
)

inMemory("many changes at once may be skipped, except the last", () =>
  Effect.gen(function*() {
    const { query, records, states, timeline } = yield* observed()
    yield* timeline.at("1 second", Effect.all([query.execute, query.finish, query.reset, query.finishResetting]))
    yield* timeline.until("10 seconds")
    assert.deepStrictEqual(states().at(-1), [1_000, "Known"])
    assert.deepStrictEqual(records.at(-1), yield* query.record)
    rise(records)
  }))

inMemory("a slow consumer gets the newest record, not all that it missed", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Queued")
    yield* timeline.at("1 second", query.execute)
    yield* timeline.at("2 seconds", query.finish)
    yield* timeline.at("3 seconds", query.reset)
    yield* timeline.at(
      0,
      Stream.runForEach(query.changes, ({ state }) =>
        Effect.andThen(timeline.note(state._tag), Effect.sleep("5 seconds")))
    )
    yield* timeline.until("20 seconds")
    assert.deepStrictEqual(timeline.only(...QueryState.tags), [[0, "Queued"], [5_000, "Resetting"]])
  }))

inMemory("versions only go up with late, doubled or shuffled notifications", () =>
  Effect.gen(function*() {
    const { query, records, states, timeline } = yield* observed()
    const faults = yield* RedisStoreFaults.RedisStoreFaults
    const published: Array<QueryRecord.QueryRecord> = []
    yield* faults.injectNotifications((record) => {
      published.push(record)
      return published.length % 2 === 0 ? [record, ...published, QueryRecord.absent(record.key), record] : []
    })
    const life = [query.execute, query.finish, query.reset, query.finishResetting, query.enqueue, query.cancel]
    for (const [index, step] of life.entries()) yield* timeline.at(1_000 * (index + 1), step)
    yield* timeline.until("10 seconds")
    assert.deepStrictEqual(states(), [[0, "Queued"], [2_000, "Completed"], [4_000, "Known"], [6_000, "Cancelled"]])
    rise(records)
  }))

inMemory(
  "a record that expires is shown as Known, with version 0, when its time to live is over",
  () =>
    Effect.gen(function*() {
      const { key, query, records, states, timeline } = yield* observed()
      yield* timeline.at("1 second", query.execute)
      yield* timeline.at("2 seconds", query.trigger("Finish", { timeToLive: "5 seconds" }))
      yield* timeline.at("10 seconds", query.enqueue)
      yield* timeline.at("11 seconds", query.trigger("Cancel", { timeToLive: "1 hour" }))
      yield* timeline.until("2 hours")
      assert.deepStrictEqual(states(), [
        [0, "Queued"],
        [1_000, "Executing"],
        [2_000, "Completed"],
        [7_000, "Known"],
        [10_000, "Queued"],
        [11_000, "Cancelled"],
        [3_611_000, "Known"]
      ])
      const known = records.filter(({ state }) => state._tag === "Known")
      assert.deepStrictEqual(known, [QueryRecord.absent(key), QueryRecord.absent(key)])
    })
)

inMemory("a record older than the last one is not shown when the store goes back", () =>
  Effect.gen(function*() {
    const { key, query: { execute, finish }, record: queued, timeline } = yield* queryThatIs("Queued")
    let isBack = false
    const query = yield* QueryStateMachine.make(key).pipe(
      Effect.updateService(RedisStore.RedisStore, (store) => ({
        ...store,
        read: (key: QueryKey.QueryKey) => Effect.map(store.read(key), (record) => isBack ? queued : record)
      }))
    )
    const goBack = (to: boolean) =>
      Effect.sync(() => {
        isBack = to
      })
    yield* timeline.at(0, Stream.runForEach(query.changes, ({ state }) => timeline.note(state._tag)))
    yield* timeline.at("1 second", execute)
    yield* timeline.at("2 seconds", goBack(true))
    yield* timeline.at("100 seconds", goBack(false))
    yield* timeline.at("101 seconds", finish)
    yield* timeline.until("2 minutes")
    assert.deepStrictEqual(timeline.only(...QueryState.tags), [[0, "Queued"], [1_000, "Executing"], [
      101_000,
      "Completed"
    ]])
  }))

inMemory("a change without notification is seen by the schedule", () =>
  Effect.gen(function*() {
    const { query, states, timeline } = yield* observed()
    const { injectNotifications } = yield* RedisStoreFaults.RedisStoreFaults
    yield* injectNotifications(() => [])
    yield* timeline.at("31 seconds", query.execute)
    yield* timeline.until("2 minutes")
    assert.deepStrictEqual(states(), [[0, "Queued"], [60_000, "Executing"]])
  }))

inMemory(
  "progress without notification is seen by the schedule, although other fibers read meanwhile",
  () =>
    Effect.gen(function*() {
      const { key, timeline } = yield* queryThatIs("Queued")
      const store = yield* RedisStore.RedisStore
      const listeners = new Set<RedisStore.Listener>()
      // Reads reach the listeners, as they do in Redis. All notifications of progress get lost.
      const query = yield* QueryStateMachine.make(key).pipe(
        Effect.provideService(RedisStore.RedisStore, {
          ...store,
          read: (key) =>
            Effect.tap(
              store.read(key),
              (record) => Effect.sync(() => listeners.forEach((listener) => listener.onRecord(record, "read")))
            ),
          changes: (_, listener) => Effect.as(Effect.sync(() => listeners.add(listener)), { announcesAll: true })
        })
      )
      yield* timeline.at(
        0,
        Stream.runForEach(query.changes, ({ progress }) => timeline.note(`done ${progress?.done}`))
      )
      yield* timeline.at(0, Effect.repeat(query.record, Schedule.spaced("10 seconds")))
      yield* timeline.at(
        "31 seconds",
        query.withExecution(
          ({ report }) => Effect.andThen(Effect.delay(report({ done: 1 }), "1 second"), Effect.never),
          {
            lease: "1 day"
          }
        )
      )
      yield* timeline.until("3 minutes")
      assert.lengthOf(timeline.only("done 1"), 1)
    })
)

inMemory("without subscriptions, a change is seen by polling", () =>
  Effect.gen(function*() {
    const { query, states, timeline } = yield* observed(({ operation }) =>
      operation === "changes" ? { _tag: "Fail", reason: new RedisStoreError.ConnectionLost({}) } : undefined
    )
    yield* timeline.at("20 millis", query.execute)
    yield* timeline.until("1 minute")
    assert.deepStrictEqual(states(), [[0, "Queued"], [25, "Executing"]])
  }))

inMemory("a lapsed lease is seen when it lapses, although nobody else reads", () =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const { key, records, states, timeline } = yield* observed()
    yield* timeline.at("1 second", store.compareAndSet(key, { event: "Execute", holder: "A", lease: "7 seconds" }))
    yield* timeline.until("1 minute")
    assert.deepStrictEqual(states(), [[0, "Queued"], [1_000, "Executing"], [8_000, "Errored"]])
    assert.deepStrictEqual(
      records.at(-1)?.state,
      QueryState.make("Errored", { reason: Reason.leaseExpired("A") })
    )
  }))

inMemory(
  "a deleted record shows as Known with version 0, and later ones have higher versions than before",
  () =>
    Effect.gen(function*() {
      const { key, query, records, states, timeline } = yield* observed()
      yield* timeline.at("1 second", Effect.all([query.execute, query.finish, query.reset, query.finishResetting]))
      yield* timeline.at("2 minutes", query.enqueue)
      yield* timeline.until("3 minutes")
      // A Known record expires after a minute; the schedule reads every 30 seconds.
      assert.deepStrictEqual(states().slice(-3), [[1_000, "Known"], [61_000, "Known"], [120_000, "Queued"]])
      assert.deepStrictEqual(records.at(-2), QueryRecord.absent(key))
      rise(records.filter(({ version }) => version > 0))
    })
)

inMemory("a late notification of what was before a deletion is not shown", () =>
  Effect.gen(function*() {
    const { query, records, states, timeline } = yield* observed()
    const faults = yield* RedisStoreFaults.RedisStoreFaults
    const published: Array<QueryRecord.QueryRecord> = []
    yield* faults.injectNotifications((record) => {
      published.push(record)
      return published.slice(0, 2).concat(record)
    })
    yield* timeline.at("1 second", Effect.all([query.execute, query.finish, query.reset, query.finishResetting]))
    yield* timeline.at("2 minutes", query.enqueue)
    yield* timeline.until("3 minutes")
    assert.deepStrictEqual(states().slice(-3), [[1_000, "Known"], [61_000, "Known"], [120_000, "Queued"]])
    rise(records.filter(({ version }) => version > 0))
  }))

inMemory("a query without a record begins as Known with version 0, once", () =>
  Effect.gen(function*() {
    const { key, query, timeline } = yield* queryThatIs("Known")
    const fiber = yield* timeline.at(0, Stream.runCollect(Stream.take(query.changes, 2)))
    yield* timeline.at("2 minutes", query.enqueue)
    yield* timeline.until("2 minutes")
    assert.deepStrictEqual(yield* Fiber.join(fiber), [QueryRecord.absent(key), yield* query.record])
  }))

inMemory("a store that cannot be read ends the stream with its error", () =>
  Effect.gen(function*() {
    const reason = new RedisStoreError.UnknownState({ raw: "archived" })
    const { fiber, key, states, timeline } = yield* observed((call, nth) =>
      call.operation === "read" && nth === 3 ? { _tag: "Fail", reason } : undefined
    )
    yield* timeline.until("1 minute")
    assert.deepStrictEqual(states(), [[0, "Queued"]])
    const exit = fiber.pollUnsafe() ?? assert.fail("the stream goes on")
    assert.deepStrictEqual(
      outcomeOf(exit),
      failedWith(new RedisStoreError.RedisStoreError({ operation: "read", key, reason }))
    )
  }))

inMemory(
  "a stream whose consumer stops or is interrupted leaves no subscription",
  () =>
    withOpenSubscriptions((open) =>
      Effect.gen(function*() {
        const { fiber, query, timeline } = yield* observed()
        const enough = yield* timeline.at(0, Stream.runDrain(Stream.take(query.changes, 2)))
        yield* timeline.until("1 second")
        assert.strictEqual(yield* open, 2)
        yield* timeline.at("2 seconds", Effect.andThen(Fiber.interrupt(fiber), query.execute))
        yield* timeline.until("2 seconds")
        assert.isDefined(enough.pollUnsafe())
        assert.strictEqual(yield* open, 0)
        yield* timeline.staysQuiet
      })
    )
)
