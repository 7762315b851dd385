/** Waiting, in virtual time: when a wait looks, what wakes it, and how it ends. */
import { assert, it } from "@effect/vitest"
import { Clock, DateTime, Duration, Effect, Fiber, Random, Schedule } from "effect"
import {
  QueryError,
  type QueryKey,
  QueryRecord,
  QueryState,
  QueryStateMachine,
  type QueryWait,
  Reason,
  RedisStore,
  RedisStoreError,
  RedisStoreFaults,
  RedisStoreMemory
} from "effect-query-state"
import { inMemory } from "../support/inMemory.ts"
import { withOpenSubscriptions } from "../support/openSubscriptions.ts"
import { failedWith, outcomeOf } from "../support/outcome.ts"
import { freshKey } from "../support/queries.ts"
import { queryThatIs } from "../support/timedQuery.ts"
import type * as Timeline from "../support/Timeline.ts"

const timedOut = new RedisStoreError.TimedOut({ after: 5_000 })

const dropHints = RedisStoreFaults.RedisStoreFaults.use(({ injectNotifications }) => injectNotifications(() => []))

const reads = (...times: ReadonlyArray<number>): ReadonlyArray<Timeline.Entry> => times.map((time) => [time, "read"])

inMemory("a wait with all notifications still reads every 30 seconds", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Executing")
    yield* dropHints
    yield* timeline.at("70 seconds", query.finish)
    const { atMillis, exit } = yield* timeline.run(query.waitUntilComplete())
    assert.deepStrictEqual(timeline.only("read"), reads(0, 0, 30_000, 60_000, 90_000))
    assert.deepStrictEqual(outcomeOf(exit), { succeeded: yield* query.record })
    assert.strictEqual(atMillis, 90_000)
  }))

inMemory("jitter moves that by at most a fifth either way", () =>
  Effect.gen(function*() {
    for (const [chance, millis] of [[0, 24_000], [1, 36_000]] as const) {
      const { query, timeline } = yield* queryThatIs("Executing")
      yield* query.waitUntilComplete({ timeout: "40 seconds" }).pipe(
        Effect.provideService(Random.Random, { nextDoubleUnsafe: () => chance, nextIntUnsafe: () => 0 }),
        timeline.run
      )
      assert.deepStrictEqual(timeline.only("read"), reads(0, 0, millis))
    }
  }))

/** 10 milliseconds, half as long again each time, up to 800 milliseconds. */
const pollingGaps = Array.from({ length: 20 }, (_, index) => Math.min(10 * 1.5 ** index, 800))

const gaps = (times: ReadonlyArray<Timeline.Entry>) =>
  times.slice(1).map(([millis], index) => millis - (times[index]?.[0] ?? 0))

const assertPolls = (times: ReadonlyArray<Timeline.Entry>) => {
  const [first, ...rest] = gaps(times).slice(0, pollingGaps.length + 1)
  assert.strictEqual(first, 0)
  // Times are those of whole milliseconds, rounded up.
  rest.forEach((gap, index) => {
    const least = pollingGaps[index] ?? assert.fail("more gaps than expected")
    assert.isAtLeast(gap, least)
    assert.isBelow(gap, least + 1)
  })
  assert.lengthOf(rest, pollingGaps.length)
}

inMemory("no delay of a wait that polls is longer than a second, whatever the jitter", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Executing", {
      choose: ({ operation }) => operation === "changes" ? { _tag: "Fail", reason: timedOut } : undefined
    })
    yield* query.waitUntilComplete({ timeout: "1 minute" }).pipe(
      Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 1, nextIntUnsafe: () => 0 }),
      timeline.run
    )
    const longest = Math.max(...gaps(timeline.only("read")))
    assert.isTrue(longest > 900 && longest <= 1_000, `${longest} ms`)
  }))

inMemory("a wait that cannot subscribe polls less and less often", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Queued", {
      choose: ({ operation }) => operation === "changes" ? { _tag: "Fail", reason: timedOut } : undefined
    })
    yield* timeline.at("59 seconds", query.cancel)
    const { exit } = yield* timeline.run(query.waitUntilComplete())
    assertPolls(timeline.only("read"))
    assert.deepStrictEqual(outcomeOf(exit), { succeeded: yield* query.record })
  }))

inMemory(
  "a wait polls a store with other writers, and is still woken by notifications",
  () =>
    Effect.gen(function*() {
      const { key, timeline } = yield* queryThatIs("Queued")
      const query = yield* QueryStateMachine.make(key).pipe(
        Effect.updateService(RedisStore.RedisStore, (store) => ({
          ...store,
          changes: (key: QueryKey.QueryKey, listener: RedisStore.Listener) =>
            Effect.as(store.changes(key, listener), { announcesAll: false })
        }))
      )
      yield* timeline.at("59 seconds", query.cancel)
      const { atMillis } = yield* timeline.run(query.waitUntilComplete())
      assertPolls(timeline.only("read"))
      assert.strictEqual(atMillis, 59_000)
    })
)

inMemory(
  "the schedule of the caller sets the reads, and its end ends the wait with the last record",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Queued")
      yield* dropHints
      yield* timeline.at("2500 millis", query.execute)
      const schedule = Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 3 }))
      const { atMillis, exit } = yield* timeline.run(query.waitUntilComplete({ schedule }))
      assert.deepStrictEqual(timeline.only("read"), reads(0, 0, 1_000, 2_000, 3_000))
      assert.strictEqual(atMillis, 3_000)
      const record = yield* query.record
      assert.strictEqual(record.state._tag, "Executing")
      assert.deepStrictEqual(outcomeOf(exit), failedWith(new QueryError.StillPending({ record })))
    })
)

inMemory("the last read of a schedule can still end a wait", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Executing")
    yield* dropHints
    yield* timeline.at("999 millis", query.finish)
    const schedule = Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 1 }))
    const { atMillis, exit } = yield* timeline.run(query.waitUntilComplete({ schedule }))
    assert.deepStrictEqual(outcomeOf(exit), { succeeded: yield* query.record })
    assert.strictEqual(atMillis, 1_000)
  }))

inMemory("after its timeout the wait ends with the last record", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Queued")
    yield* timeline.at("5 seconds", query.execute)
    const { atMillis, exit } = yield* timeline.run(query.waitUntilComplete({ timeout: "12345 millis" }))
    assert.deepStrictEqual(timeline.only("read"), reads(0, 0))
    assert.strictEqual(atMillis, 12_345)
    assert.deepStrictEqual(
      outcomeOf(exit),
      failedWith(new QueryError.StillPending({ record: yield* query.record }))
    )
  }))

inMemory("a wait with a timeout of zero reads once or twice and ends", () =>
  Effect.gen(function*() {
    const { query, record, timeline } = yield* queryThatIs("Queued")
    const { atMillis, exit } = yield* timeline.run(query.waitUntilComplete({ timeout: 0 }))
    assert.strictEqual(atMillis, 0)
    assert.deepStrictEqual(outcomeOf(exit), failedWith(new QueryError.StillPending({ record })))
  }))

inMemory("the timeout runs from the first pending read, even when the store hangs", () =>
  Effect.gen(function*() {
    for (const operation of ["changes", "read"]) {
      const { query, record, timeline } = yield* queryThatIs("Executing", {
        choose: (call, nth) => {
          if (call.operation === "read" && nth === 1) return { _tag: "Delay", duration: "4 seconds" }
          return call.operation === operation ? { _tag: "Hang" } : undefined
        }
      })
      const { atMillis, exit } = yield* timeline.run(query.waitUntilComplete({ timeout: "3 seconds" }))
      assert.strictEqual(atMillis, 7_000, operation)
      assert.deepStrictEqual(outcomeOf(exit), failedWith(new QueryError.StillPending({ record })), operation)
    }
  }))

const lapses = [
  ["Queued", "Cancelled"],
  ["Executing", "Errored"],
  ["Resetting", "ResetFailed"]
] as const

for (const [tag, lapsed] of lapses) {
  inMemory(
    `a wait reads when the lease of a query that is ${tag} ends, without notification`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(tag, { lastStep: { lease: "8 seconds" } })
        // The lease was given a second before the timeline begins.
        const { atMillis, exit } = yield* timeline.run(query.waitUntilComplete())
        assert.deepStrictEqual(timeline.only("read"), reads(0, 0, 7_000))
        assert.strictEqual(atMillis, 7_000)
        const record = yield* query.record
        assert.deepStrictEqual(record.state, QueryState.make(lapsed, { reason: Reason.leaseExpired() }))
        assert.deepStrictEqual(outcomeOf(exit), { succeeded: record })
      })
  )
}

inMemory(
  "a wait reads at the end of a lease, and again at its renewed end",
  () =>
    Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const { query, record, timeline } = yield* queryThatIs("Executing", { lastStep: { lease: "8 seconds" } })
      yield* timeline.at("5 seconds", store.renew(query.key, record.version, "10 seconds"))
      const { atMillis } = yield* timeline.run(query.waitUntilComplete())
      assert.deepStrictEqual(timeline.only("read"), reads(0, 0, 7_000, 15_000))
      assert.strictEqual(atMillis, 15_000)
    })
)

inMemory(
  "a wait whose clock is ahead of the store reads every 10 milliseconds at the end of a lease",
  () =>
    Effect.gen(function*() {
      const { key, timeline } = yield* queryThatIs("Executing", { lastStep: { lease: "1050 millis" } })
      const query = yield* withClockAhead(key, Duration.minutes(10))
      const { atMillis } = yield* timeline.run(query.waitUntilComplete())
      assert.deepStrictEqual(timeline.only("read"), reads(0, 0, 10, 20, 30, 40, 50))
      assert.strictEqual(atMillis, 50)
    })
)

inMemory("a wait whose clock is behind the store reads by its schedule", () =>
  Effect.gen(function*() {
    const { key, timeline } = yield* queryThatIs("Executing", { lastStep: { lease: "8 seconds" } })
    const query = yield* withClockAhead(key, Duration.minutes(-10))
    const { atMillis } = yield* timeline.run(query.waitUntilComplete())
    assert.deepStrictEqual(timeline.only("read"), reads(0, 0, 30_000))
    assert.strictEqual(atMillis, 30_000)
  }))

/** A machine whose clock differs from that of the store. */
const withClockAhead = (key: QueryKey.QueryKey, by: Duration.Duration) =>
  QueryStateMachine.make(key).pipe(
    Effect.updateService(RedisStore.RedisStore, (store) => ({
      ...store,
      currentTime: Effect.map(store.currentTime, DateTime.addDuration(by))
    }))
  )

inMemory("a notification ends the delay at once, and is not confirmed by a read", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Queued")
    yield* timeline.at("1234 millis", query.execute)
    yield* timeline.at("5678 millis", query.finish)
    const { atMillis, exit } = yield* timeline.run(query.waitUntilComplete())
    assert.deepStrictEqual(timeline.only("read"), reads(0, 0))
    assert.strictEqual(atMillis, 5_678)
    assert.deepStrictEqual(outcomeOf(exit), { succeeded: yield* query.record })
  }))

type Chosen = ReadonlyArray<QueryRecord.QueryRecord | "gap">
type Disturbance = (record: QueryRecord.QueryRecord, seen: ReadonlyArray<QueryRecord.QueryRecord>) => Chosen

const older = ({ key }: QueryRecord.QueryRecord) => QueryRecord.absent(key)

// A notification with an older version asks for a read.
const disturbances: ReadonlyArray<readonly [how: string, choose: Disturbance, readAt: ReadonlyArray<number>]> = [
  ["doubled", (record) => [record, record, record], [0, 0]],
  ["late and shuffled", (record, seen) => seen.length === 1 ? [] : [record, ...seen], [0, 0]],
  ["followed by older ones", (record, seen) => [record, ...seen.toReversed(), older(record)], [0, 0, 1_000]],
  ["preceded by older ones", (record, seen) => [older(record), ...seen, record], [0, 0, 1_000, 2_000]],
  ["not understood", () => ["gap"], [0, 0, 1_000, 2_000]]
]

for (const [how, choose, readAt] of disturbances) {
  inMemory(
    `notifications that are ${how} wake a wait and never end it with an earlier record`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs("Queued")
        const faults = yield* RedisStoreFaults.RedisStoreFaults
        const seen: Array<QueryRecord.QueryRecord> = []
        yield* faults.injectNotifications((record) => {
          seen.push(record)
          return choose(record, seen)
        })
        yield* timeline.at("1 second", query.execute)
        yield* timeline.at("2 seconds", query.finish)
        const { atMillis, exit } = yield* timeline.run(query.waitUntilComplete())
        assert.deepStrictEqual(timeline.only("read"), reads(...readAt))
        assert.strictEqual(atMillis, 2_000)
        assert.deepStrictEqual(outcomeOf(exit), { succeeded: yield* query.record })
      })
  )
}

inMemory(
  "notifications of a known version cause no read, and do not postpone the next one",
  () =>
    Effect.gen(function*() {
      const { query, record, timeline } = yield* queryThatIs("Executing")
      const store = yield* RedisStore.RedisStore
      const faults = yield* RedisStoreFaults.RedisStoreFaults
      // Reported progress causes a notification, of which each time only the first record arrives.
      yield* faults.injectNotifications(() => [record])
      for (const seconds of [1, 20, 29, 31, 50]) {
        const report = store.renew(query.key, record.version, "1 hour", { progress: { done: seconds } })
        yield* timeline.at(`${seconds} seconds`, report)
      }
      yield* timeline.at("55 seconds", query.cancel)
      const { atMillis } = yield* timeline.run(query.waitUntilComplete())
      assert.deepStrictEqual(timeline.only("read"), reads(0, 0, 30_000, 60_000))
      assert.strictEqual(atMillis, 60_000)
    })
)

inMemory(
  "a read by another fiber takes the place of the next one, and a lost change costs one delay after it",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Executing")
      const store = yield* RedisStore.RedisStore
      yield* dropHints
      yield* timeline.at("20 seconds", store.read(query.key))
      yield* timeline.at("21 seconds", query.cancel)
      const { atMillis } = yield* timeline.run(query.waitUntilComplete())
      assert.deepStrictEqual(timeline.only("read"), reads(0, 0, 20_000, 50_000))
      assert.strictEqual(atMillis, 50_000)
    })
)

inMemory("a change between the first read and the subscription is seen", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Executing", {
      choose: ({ operation }) => operation === "changes" ? { _tag: "Delay", duration: "5 seconds" } : undefined
    })
    yield* timeline.at("2 seconds", query.finish)
    const { atMillis } = yield* timeline.run(query.waitUntilComplete())
    assert.deepStrictEqual(timeline.only("read"), reads(0, 5_000))
    assert.strictEqual(atMillis, 5_000)
  }))

inMemory(
  "a wait continues through a reset and ends with the determinate state that it reads",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Executing")
      yield* dropHints
      yield* timeline.at("10 seconds", query.cancel)
      yield* timeline.at("20 seconds", query.reset)
      yield* timeline.at("40 seconds", query.finishResetting)
      yield* timeline.at("50 seconds", query.enqueue)
      yield* timeline.at("70 seconds", query.cancel)
      const { atMillis, exit } = yield* timeline.run(query.waitUntilComplete())
      assert.deepStrictEqual(timeline.only("read"), reads(0, 0, 30_000, 60_000, 90_000))
      assert.strictEqual(atMillis, 90_000)
      assert.deepStrictEqual(outcomeOf(exit), { succeeded: yield* query.record })
    })
)

for (const nth of [1, 2, 3, 4]) {
  inMemory(`a store that fails at read ${nth} ends the wait with its error`, () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Executing", {
        choose: ({ operation }, count) =>
          operation === "read" && count === nth ? { _tag: "Fail", reason: timedOut } : undefined
      })
      const { atMillis, exit } = yield* timeline.run(query.waitUntilComplete())
      assert.deepStrictEqual(timeline.only("read"), reads(0, 0, 30_000, 60_000).slice(0, nth))
      assert.strictEqual(atMillis, [0, 0, 30_000, 60_000][nth - 1])
      const error = new RedisStoreError.RedisStoreError({ operation: "read", key: query.key, reason: timedOut })
      assert.deepStrictEqual(outcomeOf(exit), failedWith(error))
    }))
}

const endings: ReadonlyArray<
  readonly [
    how: string,
    options: QueryWait.Options,
    end: (
      query: QueryStateMachine.QueryStateMachine,
      wait: Fiber.Fiber<unknown, unknown>
    ) => Effect.Effect<unknown, unknown>
  ]
> = [
  ["is interrupted", {}, (_, wait) => Fiber.interrupt(wait)],
  ["is answered", {}, ({ finish }) => finish],
  ["runs out of time", { timeout: "10 seconds" }, () => Effect.void],
  [
    "comes to the end of its schedule",
    { schedule: Schedule.spaced("10 seconds").pipe(Schedule.upTo({ times: 1 })) },
    () => Effect.void
  ]
]

for (const [how, options, end] of endings) {
  inMemory(
    `a wait that ${how} leaves no fibers and subscriptions`,
    () =>
      withOpenSubscriptions((open) =>
        Effect.gen(function*() {
          const { query, timeline } = yield* queryThatIs("Executing")
          const wait = yield* timeline.at(0, query.waitUntilComplete(options))
          yield* timeline.at("10 seconds", end(query, wait))
          yield* timeline.until("9 seconds")
          assert.strictEqual(yield* open, 1)
          yield* timeline.until("10 seconds")
          assert.isDefined(wait.pollUnsafe())
          assert.strictEqual(yield* open, 0)
          yield* timeline.staysQuiet
        })
      )
  )
}

it.effect("a wait ends with its schedule when all sleeps end at once", () =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const query = yield* QueryStateMachine.make(yield* freshKey)
    yield* query.enqueue
    const error = yield* Effect.flip(query.waitUntilComplete({
      schedule: Schedule.spaced("1 hour").pipe(Schedule.upTo({ times: 3 }))
    })).pipe(Effect.provideService(Clock.Clock, {
      currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
      currentTimeMillis: clock.currentTimeMillis,
      currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
      currentTimeNanos: clock.currentTimeNanos,
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: clock.monotonicTimeNanos,
      sleep: () => Effect.void
    }))
    assert.deepStrictEqual(error, new QueryError.StillPending({ record: yield* query.record }))
  }).pipe(Effect.provide(RedisStoreMemory.layer)))
