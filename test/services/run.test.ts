/** Running a query once or joining the run that there is, in virtual time. */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Option, Schedule, Schema } from "effect"
import {
  QueryError,
  type QueryKey,
  type QueryRun,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStore,
  RedisStoreError
} from "effect-query-state"
import { inMemory } from "../support/inMemory.ts"
import { withOpenSubscriptions } from "../support/openSubscriptions.ts"
import { failedWith, type Outcome, outcomeOf } from "../support/outcome.ts"
import { queryThatIs } from "../support/timedQuery.ts"
import type * as Timeline from "../support/Timeline.ts"

class ExecuteFailed extends Schema.TaggedError<ExecuteFailed>()("ExecuteFailed", {}) {}
class FetchFailed extends Schema.TaggedError<FetchFailed>()("FetchFailed", {}) {}
class PurgeFailed extends Schema.TaggedError<PurgeFailed>()("PurgeFailed", {}) {}

type Options = Partial<
  QueryRun.Options<string, ExecuteFailed, never, FetchFailed, never, PurgeFailed, never, never, never>
>

/** A run that takes five seconds, and two to purge first where that is needed. */
const runOf = (query: QueryStateMachine.QueryStateMachine, timeline: Timeline.Timeline) => (options?: Options) =>
  query.run<string, ExecuteFailed, never, FetchFailed, never, PurgeFailed, never, never, never>({
    execute: () => Effect.as(Effect.andThen(timeline.note("execute"), Effect.sleep("5 seconds")), "executed"),
    result: Effect.as(timeline.note("fetch"), Option.some("fetched")),
    purge: () => Effect.andThen(timeline.note("purge"), Effect.sleep("2 seconds")),
    ...options
  })

const shown = (timeline: Timeline.Timeline) => timeline.only("execute", "fetch", "purge")

const outcome = (fiber: Fiber.Fiber<unknown, unknown>): Outcome =>
  outcomeOf(fiber.pollUnsafe() ?? assert.fail("it has not ended"))

const failWith = (tag: "Errored" | "Cancelled" | "ResetFailed", key: QueryKey.QueryKey, reason: Reason.Reason) => {
  switch (tag) {
    case "Errored":
      return new QueryError.QueryErrored({ key, reason, attempts: 1 })
    case "Cancelled":
      return new QueryError.QueryCancelled({ key, reason })
    case "ResetFailed":
      return new QueryError.QueryResetFailed({ key, reason })
  }
}

const failedTags = ["Errored", "Cancelled", "ResetFailed"] as const

inMemory(
  "the first caller queues and executes the query under its claim and gets its value",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Known")
      const { atMillis, exit } = yield* timeline.run(
        runOf(query, timeline)({
          holder: "A",
          execute: (claim) => Effect.map(Effect.orDie(query.currentState), (state) => JSON.stringify([claim, state]))
        })
      )
      const [claim, state] = exit._tag === "Success" ? JSON.parse(exit.value) : []
      assert.deepStrictEqual([state._tag, state.claim], ["Executing", claim])
      assert.deepStrictEqual([claim.holder, claim.expiresAt], ["A", "1970-01-01T00:00:31.000Z"])
      assert.deepStrictEqual(timeline.entries.filter(([, what]) => what !== "read"), [[0, "Queue Execute"], [
        0,
        "Finish"
      ]])
      assert.strictEqual(atMillis, 0)
      assert.deepStrictEqual(yield* query.currentState, QueryState.completed)
    })
)

inMemory("the result of a Completed query is fetched after one refused claim", () =>
  Effect.gen(function*() {
    const { query, record, timeline } = yield* queryThatIs("Completed")
    const { exit } = yield* timeline.run(runOf(query, timeline)())
    assert.deepStrictEqual(timeline.entries, [[0, "Queue Execute"], [0, "fetch"]])
    assert.deepStrictEqual(outcomeOf(exit), { succeeded: "fetched" })
    assert.deepStrictEqual(yield* query.record, record)
  }))

inMemory("a result that cannot be fetched is an error, and the query stays Completed", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Completed")
    const { exit } = yield* timeline.run(runOf(query, timeline)({ result: Effect.fail(new FetchFailed()) }))
    assert.deepStrictEqual(outcomeOf(exit), failedWith(new FetchFailed()))
    assert.isTrue(yield* query.isCompleted)
  }))

inMemory("a caller that joins a run waits and then fetches the result", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Known")
    const run = runOf(query, timeline)
    const runner = yield* timeline.at(0, run())
    const joiner = yield* timeline.at("2 seconds", run())
    yield* timeline.until("5 seconds")
    assert.deepStrictEqual(shown(timeline), [[0, "execute"], [5_000, "fetch"]])
    assert.deepStrictEqual([outcome(runner), outcome(joiner)], [{ succeeded: "executed" }, { succeeded: "fetched" }])
  }))

inMemory(
  "a caller waits for a query that others queued or execute, claimed or not",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Queued")
      const joiner = yield* timeline.at(0, runOf(query, timeline)())
      yield* timeline.at("5 minutes", query.execute)
      yield* timeline.at("10 minutes", query.finish)
      yield* timeline.until("10 minutes")
      assert.deepStrictEqual(shown(timeline), [[600_000, "fetch"]])
      assert.deepStrictEqual(outcome(joiner), { succeeded: "fetched" })
    })
)

inMemory("one of many concurrent callers executes, and all get the result", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Known")
    const runs = Array.from({ length: 50 }, () => runOf(query, timeline)())
    const { atMillis, exit } = yield* timeline.run(Effect.all(runs, { concurrency: "unbounded" }))
    const values = exit._tag === "Success" ? exit.value.toSorted() : []
    assert.deepStrictEqual(values, ["executed", ...Array.from({ length: 49 }, () => "fetched")])
    assert.deepStrictEqual(timeline.only("execute"), [[0, "execute"]])
    assert.strictEqual(atMillis, 5_000)
  }))

inMemory(
  "a caller that loses the race waits at once from the answered record",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Known")
      yield* timeline.at(0, Effect.andThen(query.enqueue, query.execute))
      const joiner = yield* timeline.at(0, runOf(query, timeline)())
      yield* timeline.at("5 seconds", query.finish)
      yield* timeline.until("5 seconds")
      assert.deepStrictEqual(outcome(joiner), { succeeded: "fetched" })
      assert.deepStrictEqual(timeline.entries, [
        [0, "Queue"],
        [0, "Execute"],
        [0, "Queue Execute"],
        [0, "changes"],
        [0, "read"],
        [5_000, "Finish"],
        [5_000, "fetch"]
      ])
    })
)

inMemory(
  "the executing caller gets the error of the work, and joiners get QueryErrored with its reason",
  () =>
    Effect.gen(function*() {
      const { key, query, timeline } = yield* queryThatIs("Known")
      const run = runOf(query, timeline)
      const execute = () => Effect.andThen(Effect.sleep("5 seconds"), Effect.fail(new ExecuteFailed()))
      const runner = yield* timeline.at(0, run({ execute }))
      const joiner = yield* timeline.at("2 seconds", run())
      const late = yield* timeline.at("20 seconds", run())
      yield* timeline.until("20 seconds")
      const state = yield* query.currentState
      if (state._tag !== "Errored") return assert.fail(`it is ${state._tag}`)
      const errored = failedWith(new QueryError.QueryErrored({ key, reason: state.reason, attempts: 1 }))
      assert.strictEqual(state.reason._tag === "Failed" && state.reason.error, "ExecuteFailed")
      assert.deepStrictEqual([runner, joiner, late].map(outcome), [failedWith(new ExecuteFailed()), errored, errored])
      assert.deepStrictEqual(shown(timeline), [])
    })
)

inMemory(
  "a cancelled run fails for all callers with its reason",
  () =>
    Effect.gen(function*() {
      const reason = Reason.requested({ by: "ada" })
      const { key, query, timeline } = yield* queryThatIs("Known")
      const run = runOf(query, timeline)
      const fibers = yield* Effect.all([timeline.at(0, run()), timeline.at("1 second", run())])
      yield* timeline.at("4 seconds", query.trigger("Cancel", { reason }))
      yield* timeline.until("1 minute")
      const cancelled = failedWith(new QueryError.QueryCancelled({ key, reason }))
      assert.deepStrictEqual(fibers.map(outcome), [cancelled, cancelled])
    })
)

for (const tag of failedTags) {
  const reason = Reason.failed({ error: "SqlError", message: "deadlock" })

  inMemory(`a query that was left ${tag} fails at once and is not run again`, () =>
    Effect.gen(function*() {
      const { key, query, record, timeline } = yield* queryThatIs(tag, { lastStep: { reason } })
      const { exit } = yield* timeline.run(runOf(query, timeline)())
      assert.deepStrictEqual(outcomeOf(exit), failedWith(failWith(tag, key, reason)))
      assert.deepStrictEqual(timeline.entries, [[0, "Queue Execute"]])
      assert.deepStrictEqual(yield* query.record, record)
    }))

  inMemory(
    `a query that is found ${tag} is reset and run again when the caller recovers from it`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(tag, { lastStep: { reason } })
        const asked: Array<QueryRun.Found> = []
        const { atMillis, exit } = yield* timeline.run(
          runOf(query, timeline)({
            recover: (found) => {
              asked.push(found)
              return Effect.succeed(true)
            }
          })
        )
        assert.deepStrictEqual(asked, [{
          state: QueryState.make(tag, { reason }),
          attempts: tag === "Errored" ? 1 : 0
        }])
        assert.deepStrictEqual(
          timeline.only("Reset", "purge", "FinishReset Queue Execute", "Queue Execute", "execute", "Finish"),
          [
            [0, "Queue Execute"],
            [0, "Reset"],
            [0, "purge"],
            [2_000, "FinishReset Queue Execute"],
            [2_000, "execute"],
            [7_000, "Finish"]
          ]
        )
        assert.deepStrictEqual(outcomeOf(exit), { succeeded: "executed" })
        assert.strictEqual(atMillis, 7_000)
      })
  )

  inMemory(
    `a query that is ${tag} after a lapse or an interruption is reset and run again, whatever recover says`,
    () =>
      Effect.gen(function*() {
        for (const reason of [Reason.leaseExpired("worker 1"), Reason.interrupted]) {
          const { query, timeline } = yield* queryThatIs(tag, { lastStep: { reason } })
          const { exit } = yield* timeline.run(runOf(query, timeline)({ recover: () => false }))
          assert.deepStrictEqual(shown(timeline), [[0, "purge"], [2_000, "execute"]])
          assert.deepStrictEqual(outcomeOf(exit), { succeeded: "executed" })
        }
      })
  )
}

inMemory(
  "a run whose holder died is run again by one of its waiters after its lease",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Executing", { lastStep: { holder: "A", lease: "10 seconds" } })
      const run = runOf(query, timeline)
      const fibers = yield* Effect.replicateEffect(timeline.at(0, run()), 10)
      yield* timeline.until("1 minute")
      // The lease was given a second before the timeline begins.
      assert.deepStrictEqual(timeline.only("purge", "execute"), [[9_000, "purge"], [11_000, "execute"]])
      assert.deepStrictEqual(
        fibers.map((fiber) => JSON.stringify(outcome(fiber))).toSorted(),
        [`{"succeeded":"executed"}`, ...Array.from({ length: 9 }, () => `{"succeeded":"fetched"}`)]
      )
      assert.strictEqual(timeline.only("fetch").at(-1)?.[0], 16_000)
    })
)

inMemory(
  "a caller that restarts a query others have restarted takes their result and purges nothing",
  () =>
    Effect.gen(function*() {
      const reason = Reason.leaseExpired("worker 1")
      const { key, query, timeline } = yield* queryThatIs("Errored", {
        lastStep: { reason },
        choose: (call, nth) =>
          call.operation === "compareAndSet" && call.command.event === "Reset" && nth === 1
            ? { _tag: "Delay", duration: "20 seconds" }
            : undefined
      })
      // In one process they would share the claim.
      const elsewhere = yield* QueryStateMachine.make(key).pipe(
        Effect.updateService(RedisStore.RedisStore, (store) => ({ ...store }))
      )
      const fibers = yield* Effect.all([
        timeline.at(0, runOf(query, timeline)()),
        timeline.at("1 second", runOf(elsewhere, timeline)())
      ])
      yield* timeline.until("1 minute")
      assert.deepStrictEqual(timeline.only("purge", "execute"), [[1_000, "purge"], [3_000, "execute"]])
      assert.deepStrictEqual(fibers.map(outcome), [{ succeeded: "fetched" }, { succeeded: "executed" }])
    })
)

inMemory(
  "a failed purge is an error, leaves the query ResetFailed, and nothing is executed",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Errored", { lastStep: { reason: Reason.leaseExpired() } })
      const { exit } = yield* timeline.run(runOf(query, timeline)({ purge: () => Effect.fail(new PurgeFailed()) }))
      assert.deepStrictEqual(outcomeOf(exit), failedWith(new PurgeFailed()))
      const state = yield* query.currentState
      assert.strictEqual(
        state._tag === "ResetFailed" && state.reason._tag === "Failed" && state.reason.error,
        "PurgeFailed"
      )
      assert.deepStrictEqual(timeline.only("execute"), [])
    })
)

inMemory(
  "interrupting a joiner affects nobody, and interrupting the executing caller hands the query over to a joiner",
  () =>
    withOpenSubscriptions((open) =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs("Known")
        const run = runOf(query, timeline)
        const runner = yield* timeline.at(0, run())
        const [first, second] = yield* Effect.all([timeline.at("1 second", run()), timeline.at("1 second", run())])
        yield* timeline.until("1 second")
        assert.strictEqual(yield* open, 3)
        yield* timeline.at("2 seconds", Fiber.interrupt(first))
        yield* timeline.until("2 seconds")
        assert.strictEqual(yield* open, 2)
        assert.isTrue(yield* query.isExecuting)
        yield* timeline.at("3 seconds", Fiber.interrupt(runner))
        yield* timeline.until("1 minute")
        assert.deepStrictEqual(
          [runner, first, second].map(outcome),
          [["interrupted"], ["interrupted"], { succeeded: "executed" }]
        )
        assert.deepStrictEqual(timeline.only("execute", "purge"), [[0, "execute"], [3_000, "purge"], [
          5_000,
          "execute"
        ]])
        assert.strictEqual((yield* query.record).attempts, 0)
        assert.strictEqual(yield* open, 0)
      })
    )
)

inMemory(
  "a joiner whose timeout or schedule ends gets StillPending with the run",
  () =>
    Effect.gen(function*() {
      const { query, record, timeline } = yield* queryThatIs("Executing")
      const run = runOf(query, timeline)
      const fibers = yield* Effect.all([
        timeline.at(0, run({ timeout: "3 seconds" })),
        timeline.at(0, run({ schedule: Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 2 })) }))
      ])
      yield* timeline.until("3 seconds")
      const pending = failedWith(new QueryError.StillPending({ record }))
      assert.deepStrictEqual(fibers.map(outcome), [pending, pending])
      assert.deepStrictEqual(shown(timeline), [])
    })
)

inMemory(
  "a caller that loses every race tries again at once, then less often, down to once a second",
  () =>
    Effect.gen(function*() {
      const { key, timeline } = yield* queryThatIs("Known")
      const query = yield* QueryStateMachine.make(key).pipe(
        Effect.updateService(RedisStore.RedisStore, (store) => ({
          ...store,
          // Another caller was faster, and has reset the query again before the next read.
          compareAndSet: (key: QueryKey.QueryKey) =>
            Effect.andThen(timeline.note("lost"), Effect.map(store.read(key), (record) => ({ record, changed: false })))
        }))
      )
      yield* timeline.at(0, runOf(query, timeline)())
      yield* timeline.until("1 hour")
      const times = timeline.only("lost").map(([millis]) => millis)
      assert.deepStrictEqual(times.slice(0, 10), [0, 0, 10, 30, 70, 150, 310, 630, 1_270, 2_270])
      assert.strictEqual(times.length, 9 + Math.floor((3_600_000 - 1_270) / 1_000))
    })
)

inMemory("an invalid lease or holder fails before the query is queued", () =>
  Effect.gen(function*() {
    for (const options of [{ lease: 0 }, { lease: Number.POSITIVE_INFINITY }, { holder: "" }]) {
      const { query, record, timeline } = yield* queryThatIs("Known")
      const { exit } = yield* timeline.run(runOf(query, timeline)(options))
      const error = exit._tag === "Failure" && exit.cause.reasons[0]?._tag === "Fail" && exit.cause.reasons[0].error
      assert.strictEqual(error && error._tag === "RedisStoreError" && error.reason._tag, "InvalidInput")
      assert.deepStrictEqual(yield* query.record, record)
      assert.deepStrictEqual(shown(timeline), [])
    }
  }))

inMemory(
  "a run whose claim is answered by an error gets that error, and is run again after its lease",
  () =>
    Effect.gen(function*() {
      const reason = new RedisStoreError.TimedOut({ after: 5_000 })
      const { key, query, timeline } = yield* queryThatIs("Known", {
        choose: (call, nth) =>
          call.operation === "compareAndSet" && call.command.event[0] === "Queue" && nth === 1
            ? { _tag: "FailAfter", reason }
            : undefined
      })
      const run = runOf(query, timeline)
      const left = yield* timeline.at(0, run({ lease: "9 seconds" }))
      const again = yield* timeline.at("6 seconds", run())
      yield* timeline.until("6 seconds")
      const error = new RedisStoreError.RedisStoreError({ operation: "compareAndSet", key, reason })
      assert.deepStrictEqual(outcome(left), failedWith(error))
      assert.isTrue(yield* query.isExecuting)
      yield* timeline.until("1 minute")
      assert.deepStrictEqual(outcome(again), { succeeded: "executed" })
    })
)
