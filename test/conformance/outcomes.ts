/**
 * The outcomes of claimed work: what is recorded, what the caller gets, and in which order.
 */
import { assert } from "@effect/vitest"
import { DateTime, Duration, Effect, Exit, Fiber, Schema } from "effect"
import { QueryError, QueryState, Reason, RedisStoreError, type RedisStoreFaults } from "effect-query-state"
import { hostname } from "node:os"
import { inMemory } from "../support/inMemory.ts"
import { withOpenSubscriptions } from "../support/openSubscriptions.ts"
import { failedWith, type Failing, outcomeOf } from "../support/outcome.ts"
import { queryThatIs } from "../support/timedQuery.ts"
import type * as Timeline from "../support/Timeline.ts"
import type { ClaimedWork } from "./ClaimedWork.ts"

class WorkFailed extends Schema.TaggedError<WorkFailed>()("WorkFailed", { table: Schema.String }) {
  override get message(): string {
    return `no table ${this.table}`
  }
}

const workFailed = new WorkFailed({ table: "totals" })
const unavailable = new RedisStoreError.Unavailable({})

/** Work that takes five seconds, and two more to clean up, both of which show on the timeline. */
const work = <A = void, E = never>(timeline: Timeline.Timeline, end: Effect.Effect<A, E>) =>
  Effect.sleep("5 seconds").pipe(
    Effect.andThen(timeline.note("worked")),
    Effect.andThen(end),
    Effect.ensuring(Effect.andThen(Effect.sleep("2 seconds"), timeline.note("cleaned up")))
  )

const shown = (timeline: Timeline.Timeline) =>
  timeline.only("worked", "cleaned up", "Finish", "FinishReset", "Error", "Cancel", "interrupted")

/** Lets something go wrong with the command that records the outcome. */
const onSettling =
  ({ failure, interruption, success }: ClaimedWork, fault: RedisStoreFaults.Fault): Timeline.Choose => (call) =>
    call.operation === "compareAndSet" &&
      [failure.event, interruption.event, success.event].some((event) => event === call.command.event)
      ? fault
      : undefined

/** A state without the detail of its reason, which is text with places in the code. */
const withoutDetail = (state: QueryState.QueryState) => {
  if (!("reason" in state) || state.reason._tag !== "Failed") return state
  const { error, message } = state.reason
  return QueryState.make(state._tag, { reason: Reason.failed({ error, message }) })
}

const noteExit = (timeline: Timeline.Timeline) => Effect.onExit(() => timeline.note("interrupted"))

export const suite = (claimed: ClaimedWork): void => {
  const { claims, during, failure, from: [from = "Known"], interruption, name, start, success } = claimed

  inMemory(
    `${name}: work that succeeds makes the query ${success.to} and returns its value`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(from)
        const { atMillis, exit } = yield* timeline.run(start(query)(() => work(timeline, Effect.succeed(42))))
        assert.deepStrictEqual(shown(timeline), [[5_000, "worked"], [7_000, "cleaned up"], [7_000, success.event]])
        assert.strictEqual(atMillis, 7_000)
        assert.deepStrictEqual(outcomeOf(exit), { succeeded: 42 })
      })
  )

  const endings: ReadonlyArray<readonly [how: string, end: Effect.Effect<never, WorkFailed>, ClaimedWork["failure"]]> =
    [
      ["fails", Effect.fail(workFailed), failure],
      ["dies", Effect.die("no disk"), failure],
      ["interrupts itself", Effect.interrupt, interruption]
    ]

  for (const [how, end, { event, to }] of endings) {
    inMemory(
      `${name}: work that ${how} makes the query ${to} with its cause, and ends in the same way`,
      () =>
        Effect.gen(function*() {
          const { query, timeline } = yield* queryThatIs(from)
          const { atMillis, exit } = yield* timeline.run(start(query)(() => work(timeline, end)))
          assert.deepStrictEqual(shown(timeline), [[5_000, "worked"], [7_000, "cleaned up"], [7_000, event]])
          assert.strictEqual(atMillis, 7_000)
          const expected = yield* Effect.exit(end)
          assert.deepStrictEqual(outcomeOf(exit), outcomeOf(expected))
          const reason = expected._tag === "Failure" ? Reason.fromCause(expected.cause) : Reason.unrecorded
          assert.deepStrictEqual(
            withoutDetail(yield* query.currentState),
            withoutDetail(QueryState.make(to, { reason }))
          )
        })
    )
  }

  inMemory(
    `${name}: the recorded reason names the error, its message and its stack`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(from)
        yield* timeline.run(start(query)(() => Effect.fail(workFailed)))
        const state = yield* query.currentState
        if (!("reason" in state) || state.reason._tag !== "Failed") return assert.fail(`it is ${state._tag}`)
        const { detail = "", ...reason } = state.reason
        assert.deepStrictEqual<object>(reason, { _tag: "Failed", error: "WorkFailed", message: "no table totals" })
        assert.include(detail, "WorkFailed: no table totals\n    at ")
      })
  )

  inMemory(`${name}: work that throws before it starts counts as work that died`, () =>
    Effect.gen(function*() {
      const { query, timeline } = yield* queryThatIs(from)
      const { exit } = yield* timeline.run(
        start(query)((): Effect.Effect<void> => {
          throw new Error("no plan")
        })
      )
      assert.deepStrictEqual(outcomeOf(exit), [{ died: { message: "no plan" } }])
      assert.deepStrictEqual(
        withoutDetail(yield* query.currentState),
        QueryState.make(failure.to, { reason: Reason.failed({ error: "Error", message: "no plan" }) })
      )
    }))

  inMemory(
    `${name}: when the caller is interrupted, the query becomes ${interruption.to} before the interruption continues`,
    () =>
      Effect.gen(function*() {
        const delay = { _tag: "Delay", duration: "4 seconds" } as const
        const { query, timeline } = yield* queryThatIs(from, { choose: onSettling(claimed, delay) })
        const fiber = yield* timeline.at(0, start(query)(() => work(timeline, Effect.void)))
        const interrupting = yield* timeline.at(
          "3 seconds",
          Fiber.interrupt(fiber).pipe(noteExit(timeline), Effect.andThen(query.currentState))
        )
        yield* timeline.until("1 minute")
        assert.deepStrictEqual(
          shown(timeline),
          [[5_000, "cleaned up"], [5_000, interruption.event], [9_000, "interrupted"]]
        )
        assert.deepStrictEqual(
          yield* Fiber.join(interrupting),
          QueryState.make(interruption.to, { reason: Reason.interrupted })
        )
        assert.deepStrictEqual(outcomeOf(yield* Fiber.await(fiber)), ["interrupted"])
      })
  )

  inMemory(
    `${name}: a caller interrupted before the claim is answered does no work, and releases the claim`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(from, {
          choose: (call) =>
            call.operation === "compareAndSet" && call.command.event === claims
              ? { _tag: "Delay", duration: "4 seconds" }
              : undefined
        })
        const fiber = yield* timeline.at(0, start(query)(() => work(timeline, Effect.void)))
        yield* timeline.at("2 seconds", Fiber.interrupt(fiber).pipe(noteExit(timeline)))
        yield* timeline.until("1 minute")
        assert.deepStrictEqual(shown(timeline), [[4_000, interruption.event], [4_000, "interrupted"]])
        assert.deepStrictEqual(
          yield* query.currentState,
          QueryState.make(interruption.to, { reason: Reason.interrupted })
        )
      })
  )

  inMemory(
    `${name}: the claim is renewed while interrupted work cleans up`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(from)
        const fiber = yield* timeline.at(
          0,
          start(query)(() => Effect.ensuring(Effect.never, Effect.sleep("2 minutes")), { lease: "9 seconds" })
        )
        yield* timeline.at("5 seconds", Fiber.interrupt(fiber).pipe(noteExit(timeline)))
        yield* timeline.until("10 minutes")
        assert.deepStrictEqual(shown(timeline), [[125_000, interruption.event], [125_000, "interrupted"]])
        assert.deepStrictEqual(
          yield* query.currentState,
          QueryState.make(interruption.to, { reason: Reason.interrupted })
        )
      })
  )

  const claimings = [
    [{}, `${hostname()}:${process.pid}`, Duration.seconds(30)],
    [{ holder: "worker 1", lease: "2 minutes" }, "worker 1", Duration.minutes(2)]
  ] as const

  for (const [options, holder, lease] of claimings) {
    inMemory(
      `${name}: work gets the claim that is recorded, with the options ${JSON.stringify(options)}`,
      () =>
        Effect.gen(function*() {
          const { query, timeline } = yield* queryThatIs(from)
          const { exit } = yield* timeline.run(
            start(query)((claim) => Effect.map(query.record, (record) => ({ claim, record })), options)
          )
          if (exit._tag === "Failure") return assert.fail(String(exit.cause))
          const { record: { changedAt = DateTime.makeUnsafe(0), state, version } } = exit.value
          const claim = { fence: version, holder, expiresAt: DateTime.addDuration(changedAt, lease) }
          const { report: _, ...handed } = exit.value.claim
          assert.deepStrictEqual(handed, claim)
          assert.deepStrictEqual(state, QueryState.make(during, { claim }))
        })
    )
  }

  for (const tag of QueryState.tags.filter((tag) => !claimed.from.includes(tag))) {
    inMemory(`${name}: a query that is ${tag} is left alone and no work is done`, () =>
      Effect.gen(function*() {
        const { query, record, timeline } = yield* queryThatIs(tag)
        const { atMillis, exit } = yield* timeline.run(start(query)(() => timeline.note("worked")))
        assert.strictEqual(atMillis, 0)
        assert.deepStrictEqual(timeline.entries, [[0, claims]])
        assert.deepStrictEqual(
          outcomeOf(exit),
          failedWith(new QueryError.IllegalTransition({ from: tag, event: claims, acceptedIn: claimed.from, record }))
        )
        assert.deepStrictEqual(yield* query.record, record)
      }))
  }

  const invalid = [
    { lease: 0 },
    { lease: -1 },
    { lease: Duration.infinity },
    { lease: Number.NaN },
    { holder: "" },
    { holder: "h".repeat(257) },
    { holder: "worker \ud800" }
  ]

  inMemory(`${name}: an invalid lease or holder fails before anything is sent`, () =>
    Effect.gen(function*() {
      for (const options of invalid) {
        const { key, query, record, timeline } = yield* queryThatIs(from)
        const { exit } = yield* timeline.run(start(query)(() => timeline.note("worked"), options))
        const [failed] = exit._tag === "Failure" ? exit.cause.reasons : []
        const error = failed?._tag === "Fail" ? failed.error : undefined
        assert.deepStrictEqual(
          error?._tag === "RedisStoreError" &&
            { operation: error.operation, key: error.key, reason: error.reason._tag },
          { operation: claims, key, reason: "InvalidInput" },
          JSON.stringify(options)
        )
        assert.deepStrictEqual(timeline.only("worked"), [])
        assert.deepStrictEqual(yield* query.record, record)
      }
    }))

  const unrecorded: ReadonlyArray<
    readonly [how: string, end: Effect.Effect<number, WorkFailed>, causes: ReadonlyArray<Failing>]
  > = [
    ["succeeded", Effect.succeed(42), []],
    ["failed", Effect.fail(workFailed), failedWith(workFailed)],
    ["died", Effect.die("no disk"), [{ died: "no disk" }]],
    ["interrupted itself", Effect.interrupt, ["interrupted"]]
  ]

  for (const [how, end, causes] of unrecorded) {
    inMemory(
      `${name}: work that ${how} and cannot be recorded fails with both causes, and the lease lapses`,
      () =>
        Effect.gen(function*() {
          const fault = { _tag: "Fail", reason: unavailable } as const
          const settling = onSettling(claimed, fault)
          const { key, query, timeline } = yield* queryThatIs(from, {
            choose: (call, nth) => call.operation === "renew" ? fault : settling(call, nth)
          })
          const fiber = yield* timeline.at(0, start(query)(() => end, { holder: "A", lease: "9 seconds" }))
          yield* timeline.until("8099 millis")
          assert.isUndefined(fiber.pollUnsafe())
          yield* timeline.until("8100 millis")
          const error = new RedisStoreError.RedisStoreError({ operation: "compareAndSet", key, reason: unavailable })
          assert.deepStrictEqual(outcomeOf(fiber.pollUnsafe() ?? Exit.void), [...causes, ...failedWith(error)])
          assert.strictEqual((yield* query.currentState)._tag, during)

          yield* timeline.until("9 seconds")
          assert.deepStrictEqual(
            yield* query.currentState,
            QueryState.make(failure.to, { reason: Reason.leaseExpired("A") })
          )
        })
    )
  }

  const endsAt5: ReadonlyArray<
    readonly [
      how: string,
      end: Effect.Effect<void, WorkFailed>,
      also: (fiber: Fiber.Fiber<unknown, unknown>) => Effect.Effect<void>
    ]
  > = [
    ["succeeds", Effect.void, () => Effect.void],
    ["fails", Effect.fail(workFailed), () => Effect.void],
    ["is interrupted", Effect.never, Fiber.interrupt]
  ]

  for (const [how, end, also] of endsAt5) {
    inMemory(
      `${name}: work that ${how} leaves no fibers and subscriptions`,
      () =>
        withOpenSubscriptions((open) =>
          Effect.gen(function*() {
            const { query, timeline } = yield* queryThatIs(from)
            const fiber = yield* timeline.at(0, start(query)(() => Effect.andThen(Effect.sleep("5 seconds"), end)))
            yield* timeline.at("5 seconds", also(fiber))
            yield* timeline.until("4 seconds")
            assert.strictEqual(yield* open, 1)
            yield* timeline.until("5 seconds")
            assert.isDefined(fiber.pollUnsafe())
            assert.strictEqual(yield* open, 0)
            yield* timeline.staysQuiet
          })
        )
    )
  }
}
