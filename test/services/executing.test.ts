/** Runs under a claim: what holds for all claimed work, and what holds only for runs, which can be cancelled. */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { QueryError, QueryState, Reason, RedisStore, RedisStoreError, RedisStoreFaults } from "effect-query-state"
import * as ClaimedWork from "../conformance/ClaimedWork.ts"
import * as Claims from "../conformance/claims.ts"
import * as Outcomes from "../conformance/outcomes.ts"
import { inMemory } from "../support/inMemory.ts"
import { failedWith, outcomeOf } from "../support/outcome.ts"
import { queryThatIs } from "../support/timedQuery.ts"
import type * as Timeline from "../support/Timeline.ts"

Outcomes.suite(ClaimedWork.executing)
Claims.suite(ClaimedWork.executing)

class WorkFailed extends Schema.TaggedError<WorkFailed>()("WorkFailed", {}) {}

const byAda = Reason.requested({ by: "ada", note: "wrong table" })
const cancelledByAda = QueryState.make("Cancelled", { reason: byAda })

/** Work that never ends, and takes two seconds to clean up. */
const endless = (timeline: Timeline.Timeline) =>
  Effect.ensuring(Effect.never, Effect.andThen(Effect.sleep("2 seconds"), timeline.note("cleaned up")))

const shown = (timeline: Timeline.Timeline) => timeline.only("Execute", "Cancel", "renew", "cleaned up", "Finish")

inMemory("a cancelled run is interrupted at once and fails with its reason", () =>
  Effect.gen(function*() {
    const { key, query, timeline } = yield* queryThatIs("Queued")
    yield* timeline.at("4 seconds", query.trigger("Cancel", { reason: byAda }))
    const { atMillis, exit } = yield* timeline.run(query.withExecution(() => endless(timeline)))
    assert.deepStrictEqual(shown(timeline), [
      [0, "Execute"],
      [100, "renew"],
      [4_000, "Cancel"],
      [6_000, "cleaned up"]
    ])
    assert.strictEqual(atMillis, 6_000)
    assert.deepStrictEqual(outcomeOf(exit), failedWith(new QueryError.QueryCancelled({ key, reason: byAda })))
    assert.deepStrictEqual(yield* query.currentState, cancelledByAda)
  }))

inMemory(
  "a run cancelled without notification is interrupted at its next heartbeat",
  () =>
    Effect.gen(function*() {
      const { key, query, timeline } = yield* queryThatIs("Queued")
      const { injectNotifications } = yield* RedisStoreFaults.RedisStoreFaults
      yield* injectNotifications(() => [])
      yield* timeline.at("14 seconds", query.trigger("Cancel", { reason: byAda }))
      const { atMillis, exit } = yield* timeline.run(query.withExecution(() => endless(timeline)))
      assert.deepStrictEqual(shown(timeline).slice(2), [
        [10_100, "renew"],
        [14_000, "Cancel"],
        [20_100, "renew"],
        [22_100, "cleaned up"]
      ])
      assert.strictEqual(atMillis, 22_100)
      assert.deepStrictEqual(outcomeOf(exit), failedWith(new QueryError.QueryCancelled({ key, reason: byAda })))
    })
)

inMemory("a run cancelled before its subscription is open is interrupted once it is", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Queued", {
      choose: ({ operation }) => operation === "changes" ? { _tag: "Delay", duration: "5 seconds" } : undefined
    })
    yield* timeline.at("2 seconds", query.cancel)
    const { atMillis } = yield* timeline.run(query.withExecution(() => endless(timeline)))
    assert.strictEqual(atMillis, 7_100)
  }))

const endings = [
  ["succeeds", Effect.void, []],
  ["fails", Effect.fail(new WorkFailed()), failedWith(new WorkFailed())],
  ["dies", Effect.die("no disk"), [{ died: "no disk" }]]
] as const

for (const [how, end, causes] of endings) {
  inMemory(
    `work that ${how} after a cancel changes nothing and fails with its reason`,
    () =>
      Effect.gen(function*() {
        const { key, query, timeline } = yield* queryThatIs("Queued")
        const { injectNotifications } = yield* RedisStoreFaults.RedisStoreFaults
        yield* injectNotifications(() => [])
        yield* timeline.at("4 seconds", query.trigger("Cancel", { reason: byAda }))
        const { atMillis, exit } = yield* timeline.run(
          query.withExecution(() => Effect.andThen(Effect.sleep("5 seconds"), end))
        )
        assert.strictEqual(atMillis, 5_000)
        const cancelled = new QueryError.QueryCancelled({ key, reason: byAda })
        assert.deepStrictEqual(outcomeOf(exit), [...causes, ...failedWith(cancelled)])
        assert.deepStrictEqual(yield* query.currentState, cancelledByAda)
      })
  )
}

inMemory(
  "a caller interrupted after a cancel is only interrupted, and the first reason stays",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Queued")
      const { injectNotifications } = yield* RedisStoreFaults.RedisStoreFaults
      yield* injectNotifications(() => [])
      const fiber = yield* timeline.at(0, query.withExecution(() => Effect.never))
      yield* timeline.at("4 seconds", query.trigger("Cancel", { reason: byAda }))
      yield* timeline.at("5 seconds", Fiber.interrupt(fiber))
      yield* timeline.until("5 seconds")
      assert.deepStrictEqual(outcomeOf(fiber.pollUnsafe() ?? assert.fail("it has not ended")), ["interrupted"])
      assert.deepStrictEqual(yield* query.currentState, cancelledByAda)
    })
)

inMemory(
  "a run whose query has moved on fails with LeaseLost and the current record",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Queued")
      const { injectNotifications } = yield* RedisStoreFaults.RedisStoreFaults
      yield* injectNotifications((record) => record.state._tag === "Cancelled" ? [] : [record])
      const fences: Array<number> = []
      const fiber = yield* timeline.at(
        0,
        query.withExecution(({ fence }) => {
          fences.push(fence)
          return endless(timeline)
        })
      )
      yield* timeline.at("4 seconds", Effect.all([query.cancel, query.reset]))
      yield* timeline.until("1 minute")
      const record = yield* query.record
      assert.strictEqual(record.state._tag, "Resetting")
      assert.deepStrictEqual(
        outcomeOf(fiber.pollUnsafe() ?? assert.fail("it has not ended")),
        failedWith(new QueryError.LeaseLost({ fence: fences[0] ?? 0, record }))
      )
    })
)

/** A query that is Queued under a claim. */
const queuedUnderClaim = queryThatIs("Queued", { lastStep: { holder: "queue", lease: "1 day" } })

inMemory("a query that is queued under a claim is run with the fence of that claim", () =>
  Effect.gen(function*() {
    const { query, record, timeline } = yield* queuedUnderClaim
    const { exit } = yield* timeline.run(
      query.withExecution(({ fence }) => Effect.succeed(fence > record.version), { fence: record.version })
    )
    assert.deepStrictEqual(outcomeOf(exit), { succeeded: true })
    assert.deepStrictEqual(yield* query.currentState, QueryState.completed)
  }))

inMemory("a query that is queued under a claim is not run without its fence", () =>
  Effect.gen(function*() {
    const { query, record, timeline } = yield* queuedUnderClaim
    const { exit } = yield* timeline.run(query.withExecution(() => Effect.void))
    assert.deepStrictEqual(
      outcomeOf(exit),
      failedWith(
        new QueryError.IllegalTransition({ from: "Queued", event: "Execute", acceptedIn: ["Queued"], record })
      )
    )
  }))

inMemory("a stale fence does no work", () =>
  Effect.gen(function*() {
    const { query, record, timeline } = yield* queuedUnderClaim
    const fence = record.version - 1
    const { exit } = yield* timeline.run(query.withExecution(() => timeline.note("worked"), { fence }))
    assert.deepStrictEqual(timeline.only("worked"), [])
    assert.deepStrictEqual(outcomeOf(exit), failedWith(new QueryError.LeaseLost({ fence, record })))
    assert.deepStrictEqual(yield* query.record, record)
  }))

inMemory(
  "the fence of a cancelled claim does no work, and the caller gets the reason",
  () =>
    Effect.gen(function*() {
      const { key, query, record, timeline } = yield* queuedUnderClaim
      yield* query.trigger("Cancel", { reason: byAda })
      const { exit } = yield* timeline.run(
        query.withExecution(() => timeline.note("worked"), { fence: record.version })
      )
      assert.deepStrictEqual(timeline.only("worked"), [])
      assert.deepStrictEqual(outcomeOf(exit), failedWith(new QueryError.QueryCancelled({ key, reason: byAda })))
    })
)

inMemory("an invalid fence fails before anything is sent", () =>
  Effect.gen(function*() {
    const { query, record, timeline } = yield* queryThatIs("Queued")
    for (const fence of [1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      const error = yield* Effect.flip(query.withExecution(() => timeline.note("worked"), { fence }))
      assert.strictEqual(error._tag === "RedisStoreError" && error.reason._tag, "InvalidInput")
    }
    assert.deepStrictEqual(timeline.only("worked"), [])
    assert.deepStrictEqual(yield* query.record, record)
  }))

inMemory(
  "a claim answered by an error does no work and lapses",
  () =>
    Effect.gen(function*() {
      const reason = new RedisStoreError.TimedOut({ after: 5_000 })
      const { key, query, timeline } = yield* queryThatIs("Queued", {
        choose: (call, nth) =>
          call.operation === "compareAndSet" && nth === 1 ? { _tag: "FailAfter", reason } : undefined
      })
      const { exit } = yield* timeline.run(
        query.withExecution(() => timeline.note("worked"), { holder: "A", lease: "9 seconds" })
      )
      assert.deepStrictEqual(timeline.only("worked"), [])
      const error = new RedisStoreError.RedisStoreError({ operation: "compareAndSet", key, reason })
      assert.deepStrictEqual(outcomeOf(exit), failedWith(error))
      assert.deepStrictEqual(
        yield* query.currentState,
        QueryState.make("Errored", { reason: Reason.leaseExpired("A") })
      )
    })
)

inMemory("one of many callers runs a query, and the others get its claim", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Queued")
    const store = yield* RedisStore.RedisStore
    const { exit } = yield* timeline.run(
      Effect.all(
        Array.from({ length: 20 }, (_, worker) =>
          Effect.exit(query.withExecution(() => Effect.as(timeline.note("worked"), worker)))),
        { concurrency: "unbounded" }
      )
    )
    const exits = exit._tag === "Success" ? exit.value : []
    assert.strictEqual(timeline.only("worked").length, 1)
    assert.deepStrictEqual(
      exits.map(({ _tag }) =>
        _tag
      ).toSorted(),
      [...Array.from({ length: 19 }, () => "Failure"), "Success"]
    )
    assert.deepStrictEqual((yield* store.read(query.key)).state, QueryState.completed)
  }))
