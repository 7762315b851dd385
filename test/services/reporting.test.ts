/** Progress of claimed work, in virtual time. */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Fiber, References, Schedule, Stream } from "effect"
import {
  type Progress,
  QueryClaim,
  QueryStateMachine,
  RedisStore,
  RedisStoreError,
  RedisStoreMemory
} from "effect-query-state"
import { TestClock } from "effect/testing"
import { inMemory } from "../support/inMemory.ts"
import { driveTo, freshKey } from "../support/queries.ts"
import { queryThatIs } from "../support/timedQuery.ts"

/** Renewals that were not called for by any report: the lease is long, so there are none for an hour. */
const lease = "1 day"

/** The progress that others see, each with the time when it was there. */
const observed = Effect.fnUntraced(function*(choose?: Parameters<typeof queryThatIs>[1]) {
  const { query, timeline } = yield* queryThatIs("Queued", choose)
  const seen: Array<readonly [atMillis: number, progress: Progress.Progress | undefined]> = []
  yield* timeline.at(
    0,
    Stream.runForEach(query.changes, ({ progress, state }) =>
      Effect.andThen(
        timeline.note("seen"),
        Effect.sync(() => {
          if (state._tag === "Executing") seen.push([timeline.entries.at(-1)?.[0] ?? Number.NaN, progress])
        })
      ))
  )
  return { query, timeline, seen }
})

inMemory("reported progress is seen by others at once and changes no state", () =>
  Effect.gen(function*() {
    const { query, seen, timeline } = yield* observed()
    const { exit } = yield* timeline.run(
      query.withExecution(
        ({ fence, report }) =>
          Effect.gen(function*() {
            yield* Effect.sleep("1 second")
            yield* report({ done: 1, total: 3 })
            yield* Effect.sleep("1 second")
            yield* report({ done: 2, total: 3, note: "joining" })
            yield* Effect.sleep("1 second")
            return { fence, record: yield* query.record }
          }),
        { lease }
      )
    )
    if (exit._tag === "Failure") return assert.fail(String(exit.cause))
    assert.deepStrictEqual(seen, [
      [0, undefined],
      [1_000, { done: 1, total: 3 }],
      [2_000, { done: 2, total: 3, note: "joining" }]
    ])
    assert.strictEqual(exit.value.record.version, exit.value.fence)
    assert.deepStrictEqual(exit.value.record.progress, { done: 2, total: 3, note: "joining" })
    assert.isUndefined((yield* query.record).progress)
  }))

inMemory(
  "frequent progress is sent once each interval, with the latest value",
  () =>
    Effect.gen(function*() {
      const { query, seen, timeline } = yield* observed()
      yield* timeline.run(
        query.withExecution(
          ({ report }) =>
            Effect.forEach(
              Array.from({ length: 1_000 }, (_, done) => done),
              (done) => Effect.delay(report({ done }), "1 millis")
            ).pipe(Effect.andThen(Effect.sleep("1 second"))),
          { lease }
        )
      )
      // The first at once, then the latest of each interval; and the keeper renews once, when it has subscribed.
      const intervals = Math.ceil(1_000 / Duration.toMillis(QueryClaim.reportInterval))
      assert.isAtMost(timeline.only("renew").length, 1 + intervals + 1)
      assert.deepStrictEqual(seen.at(-1)?.[1], { done: 999 })
    })
)

inMemory(
  "a report does not wait for a hanging store, and the work continues when it cannot be sent",
  () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs("Queued", {
        choose: ({ operation }, nth) =>
          operation !== "renew" ? undefined : nth % 2 === 0
            ? { _tag: "Hang" }
            : { _tag: "Fail", reason: new RedisStoreError.ConnectionLost({}) }
      })
      const { atMillis, exit } = yield* timeline.run(
        query.withExecution(
          ({ report }) => Effect.replicateEffect(Effect.delay(report({ done: 1 }), "1 second"), 3, { discard: true }),
          { lease }
        )
      )
      assert.deepStrictEqual([exit._tag, atMillis], ["Success", 3_000])
    })
)

/** Lets other fibers go on after every few steps. */
const stepwise = (steps: number) => Effect.provideService(References.MaxOpsBeforeYield, steps)

inMemory("concurrent reports share the interval", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Queued")
    yield* timeline.run(
      query.withExecution(
        ({ report }) =>
          Effect.forEach([1, 2, 3], (done) => stepwise(5)(report({ done })), { concurrency: "unbounded" }).pipe(
            Effect.andThen(Effect.sleep("1 second")),
            Effect.andThen(Effect.map(query.record, ({ progress }) => assert.deepStrictEqual(progress, { done: 3 })))
          ),
        { lease }
      )
    )
    assert.isAtMost(timeline.only("renew").length, 1 + 2)
  }))

it.live("a first report whose fiber is interrupted at any step does not keep later ones from being sent", () => {
  const interruptedAfter = Effect.fnUntraced(function*(steps: number) {
    const key = yield* freshKey
    yield* driveTo(key, "Queued")
    const query = yield* QueryStateMachine.make(key)
    yield* query.withExecution(({ report }) =>
      Effect.gen(function*() {
        const first = yield* Effect.forkChild(stepwise(7)(report({ done: 1 })), { startImmediately: true })
        for (let step = 0; step < steps; step++) yield* Effect.yieldNow
        yield* Fiber.interrupt(first)
        yield* report({ done: 2 })
        yield* Effect.repeat(query.record, {
          schedule: Schedule.spaced("5 millis"),
          until: ({ progress }) => progress?.done === 2
        })
      })
    )
  })
  return Effect.forEach(Array.from({ length: 20 }, (_, steps) => steps), interruptedAfter, {
    concurrency: "unbounded"
  }).pipe(Effect.provide(RedisStoreMemory.layer))
})

inMemory("a report after the end of the work does nothing", () =>
  Effect.gen(function*() {
    for (const isFirst of [true, false]) {
      const { query, timeline } = yield* queryThatIs("Queued")
      let late: Effect.Effect<void, RedisStoreError.RedisStoreError> = Effect.void
      yield* timeline.run(
        query.withExecution(({ report }) => {
          late = report({ done: 2 })
          return Effect.andThen(isFirst ? Effect.void : report({ done: 1 }), Effect.sleep("1 second"))
        }, { lease })
      )
      const before = timeline.only("renew").length
      yield* late
      yield* TestClock.adjust("1 second")
      assert.strictEqual(timeline.only("renew").length, before)
      assert.strictEqual((yield* query.currentState)._tag, "Completed")
    }
  }))

inMemory("an invalid report is a typed error and is not sent", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Queued")
    const { exit } = yield* timeline.run(
      query.withExecution(({ report }) => Effect.flip(report({ done: -1 })), { lease })
    )
    const error = exit._tag === "Success" ? exit.value : assert.fail(String(exit.cause))
    assert.strictEqual(error.reason._tag, "InvalidInput")
    assert.include(error.message, "report the progress of")
    assert.deepStrictEqual(timeline.only("renew"), [])
  }))

inMemory("a purge can report progress", () =>
  Effect.gen(function*() {
    const { query, timeline } = yield* queryThatIs("Completed")
    const { exit } = yield* timeline.run(
      query.withReset(
        ({ report }) =>
          report({ done: 1 }).pipe(
            Effect.andThen(Effect.sleep("1 second")),
            Effect.andThen(Effect.map(query.record, ({ progress }) => progress))
          ),
        { lease }
      )
    )
    assert.deepStrictEqual(exit._tag === "Success" && exit.value, { done: 1 })
  }))

inMemory("a report after the claim is lost is not seen", () =>
  Effect.gen(function*() {
    const { key, query, timeline } = yield* queryThatIs("Queued")
    yield* timeline.at("1 second", query.cancel)
    const { exit } = yield* timeline.run(
      query.withExecution(({ report }) =>
        Effect.never.pipe(Effect.onInterrupt(() => Effect.ignore(report({ done: 1 }))))
      )
    )
    assert.strictEqual(exit._tag, "Failure")
    const record = yield* RedisStore.RedisStore.use((store) => store.read(key))
    assert.strictEqual(record.state._tag, "Cancelled")
    assert.isUndefined(record.progress)
  }))
