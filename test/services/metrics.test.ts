/** What is counted, read as an exporter reads it. */
import { assert, it } from "@effect/vitest"
import { Clock, Context, Effect, Exit, Fiber, Layer, Metric, Redacted, Scope } from "effect"
import {
  QueryMetrics,
  QueryStateMachine,
  Reason,
  RedisStore,
  RedisStoreError,
  RedisStoreFaults,
  RedisStoreFlowMachine,
  RedisStoreLive,
  RedisStoreMemory
} from "effect-query-state"
import { TestClock } from "effect/testing"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { driveTo, freshKey } from "../support/queries.ts"
import * as RedisServer from "../support/RedisServer.ts"

/** Counts from zero, apart from other counts in this process. */
const counted = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provideService(effect, Metric.MetricRegistry, new Map())

const count = (metric: Metric.Metric<never, { readonly count: number | bigint }>) =>
  Effect.map(Metric.value(metric), ({ count }) => Number(count))

const counts = (...metrics: ReadonlyArray<Parameters<typeof count>[0]>) => Effect.forEach(metrics, count)

const prefix = `metrics-${randomUUID()}`
const url = Redacted.make(inject("redisUrl"))

const stores = [
  ["memory", RedisStoreMemory.layer],
  ["Redis", RedisStoreLive.layer({ url, prefix })],
  ["FlowMachine's Redis", RedisStoreFlowMachine.layer({ url, prefix, dialect: "reset-failed" })]
] as const

for (const [name, layer] of stores) {
  it.live(`${name}: transitions are counted by their result`, () =>
    counted(Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      const { record } = yield* store.compareAndSet(key, { event: "Queue", lease: "1 hour" })
      yield* store.compareAndSet(key, { event: "Execute" })
      yield* Effect.flip(store.compareAndSet(key, { event: "Execute", fence: record.version - 1 }))
      yield* Effect.flip(store.compareAndSet(key, { event: "Execute", holder: "" }))
      yield* store.compareAndSetMany([[key, { event: "Execute", fence: record.version }]])
      const { Execute, Queue } = QueryMetrics.transitions
      assert.deepStrictEqual(
        yield* counts(Queue.changed, Execute.changed, Execute.refused, Execute.lease_lost, Execute.failed),
        [1, 1, 1, 1, 1]
      )
      assert.strictEqual(yield* count(QueryMetrics.storeErrors.InvalidInput), 1)
    })).pipe(Effect.provide(layer)))

  it.live(`${name}: a lapsed lease is counted once, with the time in its state`, () =>
    counted(Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      const key = yield* freshKey
      yield* driveTo(key, "Executing", { lease: "25 millis" })
      yield* Effect.repeat(store.read(key), { until: ({ state }) => state._tag === "Errored" })
      yield* store.read(key)
      assert.strictEqual(yield* count(QueryMetrics.leasesLapsed), 1)
      const { Executing, Known, Queued } = QueryMetrics.stateDuration
      const { min } = yield* Metric.value(Executing)
      assert.isAtLeast(min, 0.024)
      // The time at which a query without a record became Known is unknown.
      assert.deepStrictEqual(yield* counts(Executing, Known, Queued), [1, 0, 1])
    })).pipe(Effect.provide(layer)))
}

const Faults = RedisStoreFaults.layer(RedisStoreMemory.layer)

it.effect("waits are counted by their outcome and by their wake-up", () =>
  counted(Effect.gen(function*() {
    const faults = yield* RedisStoreFaults.RedisStoreFaults
    const pendingFor = Effect.fnUntraced(function*(options?: { readonly lease: "1 minute" }) {
      const key = yield* freshKey
      yield* driveTo(key, "Queued", options)
      return yield* QueryStateMachine.make(key)
    })
    const settled = TestClock.adjust("10 millis")

    const notified = yield* pendingFor()
    const byNotification = yield* Effect.forkChild(notified.waitUntilComplete())
    yield* settled
    yield* notified.cancel
    yield* Fiber.join(byNotification)

    const leased = yield* pendingFor({ lease: "1 minute" })
    const byLease = yield* Effect.forkChild(leased.waitUntilComplete())
    yield* settled

    const unheard = yield* pendingFor()
    yield* faults.injectNotifications(() => [])
    const byBackstop = yield* Effect.forkChild(unheard.waitUntilComplete())
    const late = yield* Effect.forkChild(Effect.flip(unheard.waitUntilComplete({ timeout: "1 second" })))
    const interrupted = yield* Effect.forkChild(unheard.waitUntilComplete())
    yield* settled
    yield* unheard.cancel
    yield* Fiber.interrupt(interrupted)
    yield* TestClock.adjust("2 minutes")
    yield* Fiber.joinAll([byLease, byBackstop])
    yield* Fiber.join(late)

    const unread = yield* pendingFor()
    const broken = yield* Effect.forkChild(Effect.flip(unread.waitUntilComplete()))
    yield* settled
    yield* faults.inject(({ operation }) =>
      operation === "read" ? { _tag: "Fail", reason: new RedisStoreError.ConnectionLost({}) } : undefined
    )
    yield* TestClock.adjust("1 minute")
    yield* Fiber.join(broken)

    const { determinate, failed, interrupted: given, still_pending } = QueryMetrics.waitDuration
    assert.deepStrictEqual(yield* counts(determinate, still_pending, given, failed), [3, 1, 1, 1])
    const { backstop, lease, notification } = QueryMetrics.wakeUps
    assert.strictEqual(yield* count(notification), 1)
    assert.isAtLeast(yield* count(lease), 1)
    assert.isAtLeast(yield* count(backstop), 1)
    assert.strictEqual((yield* Metric.value(still_pending)).max, 1)
  })).pipe(Effect.provide(Faults)))

it.effect("a wait takes no negative time when the clock is set back", () =>
  counted(Effect.gen(function*() {
    const clock = yield* Clock.Clock
    let setBackMillis = 0
    const now = () => clock.currentTimeMillisUnsafe() - setBackMillis
    const query = yield* QueryStateMachine.make(yield* freshKey)
    yield* query.enqueue
    const wait = yield* query.waitUntilComplete({ timeout: "1 second" }).pipe(
      Effect.flip,
      Effect.provideService(Clock.Clock, {
        sleep: (duration) => clock.sleep(duration),
        currentTimeMillisUnsafe: now,
        currentTimeMillis: Effect.sync(now),
        currentTimeNanosUnsafe: () => BigInt(now()) * 1_000_000n,
        currentTimeNanos: Effect.sync(() => BigInt(now()) * 1_000_000n),
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: clock.monotonicTimeNanos
      }),
      Effect.forkChild({ startImmediately: true })
    )
    setBackMillis = 3_600_000
    yield* TestClock.adjust("1 second")
    yield* Fiber.join(wait)
    assert.strictEqual((yield* Metric.value(QueryMetrics.waitDuration.still_pending)).sum, 1)
  })).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("a claim is counted while it is held, for every way in which work ends", () =>
  counted(Effect.gen(function*() {
    const held = count(QueryMetrics.claimsHeld)
    const works = [Effect.void, Effect.fail("no"), Effect.die("bug"), Effect.interrupt]
    for (const work of works) {
      const query = yield* QueryStateMachine.make(yield* freshKey)
      yield* query.enqueue
      let during = 0
      yield* Effect.exit(query.withExecution(() =>
        Effect.flatMap(held, (count) => {
          during = count
          return work
        })
      ))
      assert.strictEqual(during, 1)
      assert.strictEqual(yield* held, 0)
    }
  })).pipe(Effect.provide(RedisStoreMemory.layer)))

it.effect("no series is labelled by a query, a holder or the text of a reason", () =>
  counted(Effect.gen(function*() {
    for (let i = 0; i < 100; i++) {
      const query = yield* QueryStateMachine.make(yield* freshKey)
      yield* query.enqueue
      yield* query.trigger("Cancel", { reason: Reason.requested({ by: `user ${i}` }) })
      yield* query.waitUntilComplete()
    }
    const series = yield* Metric.snapshot
    assert.isAtMost(series.length, 10)
    const labels = new Set(series.flatMap(({ attributes }) => Object.keys(attributes ?? {})))
    assert.isEmpty([...labels].filter((label) => !/^(query_state\.(event|outcome|state|source)|unit)$/.test(label)))
  })).pipe(Effect.provide(RedisStoreMemory.layer)))

it.live("failures in an outage are counted by their reason", () =>
  counted(Effect.gen(function*() {
    const outage = yield* Scope.make()
    const server = yield* Scope.provide(RedisServer.acquire(), outage)
    const store = yield* Effect.map(
      Layer.build(RedisStoreLive.layer({ url: Redacted.make(server.url), commandTimeout: "200 millis" })),
      Context.get(RedisStore.RedisStore)
    )
    yield* Scope.close(outage, Exit.void)
    const { reason } = yield* Effect.flip(store.read(yield* freshKey))
    assert.strictEqual(yield* count(QueryMetrics.storeErrors[reason._tag]), 1)
  })))
