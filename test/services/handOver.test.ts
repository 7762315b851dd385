/** What becomes of a run that ends without a result, and who runs the query again, in virtual time. */
import { assert } from "@effect/vitest"
import { Cause, Effect, Fiber, Option, Schema } from "effect"
import {
  QueryError,
  type QueryRun,
  QueryState,
  type QueryStateMachine,
  Reason,
  RedisStoreError
} from "effect-query-state"
import { inMemory } from "../support/inMemory.ts"
import { failedWith, type Outcome, outcomeOf } from "../support/outcome.ts"
import { queryThatIs } from "../support/timedQuery.ts"
import type * as Timeline from "../support/Timeline.ts"

class Broken extends Schema.TaggedError<Broken>()("Broken", {}) {}

type Options = Partial<QueryRun.Options<string, Broken, never, never, never, never, never, never, never>>

const runOf = (query: QueryStateMachine.QueryStateMachine, timeline: Timeline.Timeline) => (options?: Options) =>
  query.run<string, Broken>({
    execute: () => Effect.as(Effect.andThen(timeline.note("execute"), Effect.sleep("5 seconds")), "executed"),
    result: Effect.succeedSome("fetched"),
    lease: "10 seconds",
    ...options
  })

const outcome = (fiber: Fiber.Fiber<unknown, unknown>): Outcome =>
  outcomeOf(fiber.pollUnsafe() ?? assert.fail("it has not ended"))

const failing = (timeline: Timeline.Timeline) => ({
  execute: () => Effect.andThen(timeline.note("execute"), Effect.andThen(Effect.sleep("1 second"), new Broken()))
})

inMemory(
  "who waited for a run shares its failure, and only who comes later asks recover",
  () =>
    Effect.gen(function*() {
      const { key, query, timeline } = yield* queryThatIs("Known")
      const run = runOf(query, timeline)
      const asked: Array<QueryRun.Found> = []
      const recover = (found: QueryRun.Found) =>
        Effect.sync(() => {
          asked.push(found)
          return found.attempts < 2
        })
      const options = { ...failing(timeline), recover }
      const runner = yield* timeline.at(0, run(options))
      const joiners = yield* Effect.replicateEffect(timeline.at("500 millis", run(options)), 100)
      yield* timeline.until("10 seconds")
      const state = yield* query.currentState
      const reason = state._tag === "Errored" ? state.reason : assert.fail(`it is ${state._tag}`)
      const shared = failedWith(new QueryError.QueryErrored({ key, reason, attempts: 1 }))
      assert.deepStrictEqual(outcome(runner), failedWith(new Broken()))
      assert.deepStrictEqual(joiners.map(outcome), joiners.map(() => shared))
      assert.deepStrictEqual([timeline.only("execute"), asked], [[[0, "execute"]], []])

      const late = yield* timeline.at("20 seconds", run(options))
      yield* timeline.until("30 seconds")
      const later = yield* timeline.at("40 seconds", run(options))
      yield* timeline.until("50 seconds")
      assert.deepStrictEqual(outcome(late), failedWith(new Broken()))
      const last = failedWith(new QueryError.QueryErrored({ key, reason, attempts: 2 }))
      assert.deepStrictEqual(JSON.stringify(outcome(later)).slice(0, 40), JSON.stringify(last).slice(0, 40))
      assert.deepStrictEqual(asked.map(({ attempts }) => attempts), [1, 2])
      assert.strictEqual(timeline.only("execute").length, 2)
    })
)

for (const maxAttempts of [1, 2, 3]) {
  inMemory(
    `work whose leases lapse is run ${maxAttempts} times at most, and then all who wait get QueryErrored`,
    () =>
      Effect.gen(function*() {
        const { key, query, timeline } = yield* queryThatIs("Known")
        const lose = Effect.fnUntraced(function*(lapsed: number) {
          // A process that died: its claim is not renewed.
          const event = lapsed === 0
            ? ["Queue", "Execute"] as const
            : ["Reset", "FinishReset", "Queue", "Execute"] as const
          yield* query.trigger(event, { holder: `worker ${lapsed + 1}`, lease: "10 seconds" })
        })
        yield* lose(0)
        for (let lapsed = 1; lapsed < maxAttempts; lapsed++) {
          yield* timeline.until(`${lapsed * 20} seconds`)
          yield* lose(lapsed)
        }
        const joiners = yield* Effect.replicateEffect(
          timeline.at(`${maxAttempts * 20} seconds`, runOf(query, timeline)({ maxAttempts })),
          3
        )
        yield* timeline.until(`${maxAttempts * 20 + 30} seconds`)
        const reason = Reason.leaseExpired(`worker ${maxAttempts}`)
        const error = new QueryError.QueryErrored({ key, reason, attempts: maxAttempts })
        assert.deepStrictEqual(joiners.map(outcome), joiners.map(() => failedWith(error)))
        assert.deepStrictEqual(timeline.only("execute"), [])

        // One more is allowed: the count goes on, and a result clears it.
        const { exit } = yield* timeline.run(runOf(query, timeline)({ maxAttempts: maxAttempts + 1 }))
        assert.deepStrictEqual(outcomeOf(exit), { succeeded: "executed" })
        assert.strictEqual((yield* query.record).attempts, 0)
      })
  )
}

inMemory(
  "a purge whose leases lapse is tried twice more, and then the query is given up",
  () =>
    Effect.gen(function*() {
      const { key, query, timeline } = yield* queryThatIs("Errored", { lastStep: { reason: Reason.interrupted } })
      yield* query.trigger("Reset", { holder: "worker 1", lease: "10 seconds" })
      yield* timeline.until("20 seconds")
      yield* query.trigger("Reset", { holder: "worker 2", lease: "10 seconds" })
      yield* timeline.until("40 seconds")
      const { exit } = yield* timeline.run(runOf(query, timeline)({ purge: () => Effect.void }))
      const reason = Reason.leaseExpired("worker 2")
      assert.deepStrictEqual(outcomeOf(exit), failedWith(new QueryError.QueryResetFailed({ key, reason })))
      assert.deepStrictEqual(timeline.only("execute"), [])
    })
)

inMemory("a query that used its attempts is run again where recover says so", () =>
  Effect.gen(function*() {
    const reason = Reason.leaseExpired("worker 1")
    const { query, timeline } = yield* queryThatIs("Errored", { lastStep: { reason } })
    const asked: Array<QueryRun.Found> = []
    const { exit } = yield* timeline.run(
      runOf(query, timeline)({
        maxAttempts: 1,
        recover: (found) => {
          asked.push(found)
          return true
        }
      })
    )
    assert.deepStrictEqual(outcomeOf(exit), { succeeded: "executed" })
    assert.deepStrictEqual(asked, [{ state: QueryState.make("Errored", { reason }), attempts: 1 }])
  }))

inMemory("an interrupted run is handed over again and again, and counts as no attempt", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Known")
    const run = runOf(query, timeline)
    for (let stops = 0; stops < 10; stops++) {
      const fiber = yield* timeline.at(`${stops * 10} seconds`, run({ maxAttempts: 1 }))
      yield* timeline.until(`${stops * 10 + 1} seconds`)
      yield* Fiber.interrupt(fiber)
    }
    const { exit } = yield* timeline.run(run({ maxAttempts: 1 }))
    assert.deepStrictEqual(outcomeOf(exit), { succeeded: "executed" })
    assert.strictEqual(timeline.only("execute").length, 11)
  }))

inMemory("a cancel by a person ends the query for all, and nobody takes it over", () =>
  Effect.gen(function*() {
    const { key, query, timeline } = yield* queryThatIs("Known")
    const run = runOf(query, timeline)
    const fibers = yield* Effect.all([timeline.at(0, run()), timeline.at("1 second", run())])
    yield* timeline.at("2 seconds", query.cancel)
    yield* timeline.until("1 minute")
    const cancelled = failedWith(new QueryError.QueryCancelled({ key, reason: Reason.requested() }))
    assert.deepStrictEqual(fibers.map(outcome), [cancelled, cancelled])
    assert.strictEqual(timeline.only("execute").length, 1)
  }))

inMemory("a caller whose claim was lost joins what another did meanwhile", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Known")
    const frozen = yield* timeline.at(0, runOf(query, timeline)({ execute: () => Effect.never }))
    yield* timeline.until("1 second")
    // Another process runs it again, as if the lease had lapsed while this one was frozen.
    yield* query.trigger("Cancel", { reason: Reason.leaseExpired() })
    yield* query.trigger(["Reset", "FinishReset", "Queue", "Execute"], { lease: "1 minute" })
    yield* timeline.at(
      "20 seconds",
      query.record.pipe(
        Effect.flatMap(({ version }) => query.trigger("Finish", { fence: version }))
      )
    )
    yield* timeline.until("1 minute")
    assert.deepStrictEqual(outcome(frozen), { succeeded: "fetched" })
  }))

inMemory(
  "a caller whose claim was lost takes over from another that was interrupted meanwhile",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Known")
      const frozen = yield* timeline.at(0, runOf(query, timeline)())
      // It hears of nothing yet. Another process runs the query again, as if the lease had lapsed meanwhile, and is stopped.
      yield* timeline.until("50 millis")
      yield* query.trigger("Cancel", { reason: Reason.leaseExpired() })
      yield* query.trigger(["Reset", "FinishReset", "Queue", "Execute"], { lease: "1 minute" })
      const { version } = yield* query.record
      yield* query.trigger("Cancel", { fence: version, reason: Reason.interrupted })
      yield* timeline.until("1 minute")
      assert.deepStrictEqual(outcome(frozen), { succeeded: "executed" })
      assert.strictEqual(timeline.only("execute").length, 2)
    })
)

inMemory(
  "a result that is gone leads to one run, however many callers find it gone at once",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Completed")
      const results = new Set<string>()
      const run = runOf(query, timeline)({
        execute: () =>
          timeline.note("execute").pipe(
            Effect.andThen(Effect.sleep("5 seconds")),
            Effect.andThen(Effect.sync(() => results.add("there"))),
            Effect.as("executed")
          ),
        result: Effect.sync(() => results.has("there") ? Option.some("fetched") : Option.none())
      })
      const fibers = yield* Effect.replicateEffect(timeline.at(0, run), 20)
      yield* timeline.until("1 minute")
      assert.deepStrictEqual(timeline.only("execute"), [[0, "execute"]])
      assert.deepStrictEqual(
        fibers.map((fiber) => JSON.stringify(outcome(fiber))).toSorted(),
        [`{"succeeded":"executed"}`, ...Array.from({ length: 19 }, () => `{"succeeded":"fetched"}`)]
      )
    })
)

inMemory("a result older than maxAge is made anew by one caller, and the others join", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Completed")
    const run = runOf(query, timeline)({ maxAge: "1 minute" })
    const fresh = yield* timeline.at("50 seconds", run)
    yield* timeline.until("51 seconds")
    assert.deepStrictEqual(outcome(fresh), { succeeded: "fetched" })
    const fibers = yield* Effect.replicateEffect(timeline.at("2 minutes", run), 5)
    yield* timeline.until("3 minutes")
    assert.deepStrictEqual(
      fibers.map((fiber) => JSON.stringify(outcome(fiber))).toSorted(),
      [`{"succeeded":"executed"}`, ...Array.from({ length: 4 }, () => `{"succeeded":"fetched"}`)]
    )
    assert.deepStrictEqual(timeline.only("execute"), [[120_000, "execute"]])
  }))

inMemory(
  "a completed record expires after the timeToLive of its run, and the next caller runs the query again",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Known")
      const run = runOf(query, timeline)({ timeToLive: "1 minute" })
      yield* timeline.at(0, run)
      yield* timeline.until("64 seconds")
      assert.isTrue(yield* query.isCompleted)
      yield* timeline.until("65 seconds")
      assert.isTrue(yield* query.isKnown)
      const { exit } = yield* timeline.run(run)
      assert.deepStrictEqual(outcomeOf(exit), { succeeded: "executed" })
    })
)

for (const where of ["its work", "its purge"] as const) {
  inMemory(
    `who waits for a run takes it over when it is interrupted in ${where}, however many attempts it had`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs("Errored", {
          lastStep: { reason: Reason.fromCause(Cause.fail(new Broken())) }
        })
        const purge = where === "its purge" ? () => Effect.sleep("5 seconds") : undefined
        const run = runOf(query, timeline)
        const recovering = yield* timeline.at(0, run({ maxAttempts: 1, recover: () => true, purge }))
        const joiners = yield* Effect.replicateEffect(timeline.at("1 second", run({ maxAttempts: 1 })), 2)
        yield* timeline.until("2 seconds")
        yield* Fiber.interrupt(recovering)
        yield* timeline.until("1 minute")
        assert.deepStrictEqual(
          joiners.map((fiber) => JSON.stringify(outcome(fiber))).toSorted(),
          [`{"succeeded":"executed"}`, `{"succeeded":"fetched"}`]
        )
      })
  )
}

inMemory(
  "who recovers what it found is not put off by the claims of others that are refused",
  () =>
    Effect.gen(function*() {
      // Each claim is under way for 100 milliseconds, so that those of the others are sent between those of the first.
      const { query, timeline } = yield* queryThatIs("Errored", {
        choose: ({ operation }) => operation === "compareAndSet" ? { _tag: "Delay", duration: "100 millis" } : undefined
      })
      const run = runOf(query, timeline)
      const first = yield* timeline.at(0, run({ recover: () => Effect.as(Effect.sleep("10 millis"), true) }))
      for (const atMillis of [50, 105, 150, 205]) yield* timeline.at(atMillis, Effect.exit(run()))
      yield* timeline.until("1 minute")
      assert.deepStrictEqual(outcome(first), { succeeded: "executed" })
    })
)

inMemory("a take-over for which Redis has no memory fails, and does not try for ever", () =>
  Effect.gen(function*() {
    const reason = new RedisStoreError.OutOfMemory({})
    const { query, timeline } = yield* queryThatIs("Errored", {
      lastStep: { reason: Reason.leaseExpired("worker 1") },
      choose: ({ operation }) => operation === "compareAndSet" ? { _tag: "Fail", reason } : undefined
    })
    const { exit } = yield* timeline.run(runOf(query, timeline)())
    const operation = "compareAndSet"
    assert.deepStrictEqual(
      outcomeOf(exit),
      failedWith(new RedisStoreError.RedisStoreError({ operation, key: query.key, reason }))
    )
  }))

inMemory("a recover that fails, fails the run that asked it, and nothing is claimed", () =>
  Effect.gen(function*() {
    const { query, record, timeline } = yield* queryThatIs("Errored")
    const { exit } = yield* timeline.run(
      query.run({ execute: () => Effect.void, result: Effect.succeedNone, recover: () => Effect.fail(new Broken()) })
    )
    assert.deepStrictEqual(outcomeOf(exit), failedWith(new Broken()))
    assert.deepStrictEqual(yield* query.record, record)
  }))

inMemory("a recover that is interrupted leaves the query to others", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Errored")
    const run = runOf(query, timeline)
    const asking = yield* timeline.at(0, run({ recover: () => Effect.never }))
    yield* timeline.until("1 second")
    yield* Fiber.interrupt(asking)
    const { exit } = yield* timeline.run(run({ recover: () => true }))
    assert.deepStrictEqual(outcomeOf(exit), { succeeded: "executed" })
  }))

inMemory(
  "callers whose results are gone each time run the query one after the other, and all end",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Completed")
      const fibers = yield* Effect.replicateEffect(
        timeline.at(0, runOf(query, timeline)({ result: Effect.succeedNone })),
        5
      )
      yield* timeline.until("5 minutes")
      assert.deepStrictEqual(fibers.map(outcome), fibers.map(() => ({ succeeded: "executed" })))
      assert.strictEqual(timeline.only("execute").length, 5)
    })
)
