/** What the class of the reference does, member by member and scenario by scenario. */
import { assert, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Fiber, Redacted, Schedule } from "effect"
import {
  type QueryEvent,
  type QueryKey,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStoreFaults,
  RedisStoreLive,
  RedisStoreMemory
} from "effect-query-state"
import { inject } from "vitest"
import * as Notifications from "../support/Notifications.ts"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"

type Step = "enqueue" | "execute" | "finish" | "raiseError" | "cancel" | "reset" | "finishResetting"

/** The documentation of the reference, and `reset_failed` of its development branch. */
const documented: Record<Step, {
  readonly event: QueryEvent.QueryEvent
  readonly moves: { readonly [From in QueryState.Tag]?: QueryState.Tag }
}> = {
  enqueue: { event: "Queue", moves: { Known: "Queued" } },
  execute: { event: "Execute", moves: { Queued: "Executing" } },
  finish: { event: "Finish", moves: { Executing: "Completed" } },
  raiseError: { event: "Error", moves: { Executing: "Errored", Resetting: "ResetFailed" } },
  cancel: { event: "Cancel", moves: { Queued: "Cancelled", Executing: "Cancelled" } },
  reset: {
    event: "Reset",
    moves: { Completed: "Resetting", Errored: "Resetting", Cancelled: "Resetting", ResetFailed: "Resetting" }
  },
  finishResetting: { event: "FinishReset", moves: { Resetting: "Known" } }
}

const steps = Object.entries(documented).map(([step, { event, moves }]) => ({ step: step as Step, event, moves }))
const taken = steps.flatMap(({ step, event, moves }) =>
  QueryState.tags.flatMap((from) => moves[from] === undefined ? [] : [{ step, event, from, to: moves[from] }])
)
const refused = steps.flatMap(({ step, event, moves }) =>
  QueryState.tags.flatMap((from) => moves[from] === undefined ? [{ step, event, from }] : [])
)

/** What ends the wait for a pending query. */
const ends = { Queued: "cancel", Executing: "finish", Resetting: "finishResetting" } as const
const pending = ["Queued", "Executing", "Resetting"] as const
const determinate = QueryState.tags.filter((tag) => QueryState.isDeterminate(QueryState.make(tag)))

const cases = <A>(values: ReadonlyArray<A>) => values.map((tag) => ({ tag }))

const callsFor = Effect.fnUntraced(function*(key: QueryKey.QueryKey) {
  const faults = yield* RedisStoreFaults.RedisStoreFaults
  return (yield* faults.calls).filter((call) => call.key === key).map(({ operation }) => operation)
})

/** Starts to wait; `looked` goes on when the wait, once subscribed, has looked as often as that. */
const startToWait = Effect.fnUntraced(function*(query: QueryStateMachine.QueryStateMachine) {
  const fiber = yield* Effect.forkScoped(query.waitUntilComplete())
  const looked = (times: number) =>
    Effect.repeat(callsFor(query.key), {
      until: (calls) =>
        calls.includes("changes") &&
        calls.slice(calls.indexOf("changes")).filter((call) => call === "read").length >= times,
      schedule: Schedule.spaced("1 millis")
    })
  return { looked, record: Fiber.join(fiber) }
})

const stores = [
  ["memory", RedisStoreMemory.layer],
  ["Redis", RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) })]
] as const

for (const [name, store] of stores) {
  it.layer(RedisStoreFaults.layer(store), { excludeTestServices: true, timeout: "30 seconds" })(
    `QueryStateMachine (${name})`,
    (it) => {
      it.effect.each(taken)(
        "$step moves a query from $from to $to",
        ({ event, from, step, to }) =>
          Effect.gen(function*() {
            const key = yield* freshKey
            yield* driveTo(key, from)
            const query = yield* QueryStateMachine.make(key)
            const state = QueryState.make(to, { reason: step === "cancel" ? Reason.requested() : Reason.unrecorded })
            assert.deepStrictEqual(yield* query[step], { state, changed: true })
            assert.deepStrictEqual(yield* query.currentState, state)

            const other = yield* freshKey
            yield* driveTo(other, from)
            const { trigger } = yield* QueryStateMachine.make(other)
            assert.deepStrictEqual(yield* trigger(event), { state: QueryState.make(to), changed: true })
          })
      )

      it.effect.each(refused)(
        "$step leaves a query that is $from unchanged",
        ({ event, from, step }) =>
          Effect.gen(function*() {
            const key = yield* freshKey
            const before = yield* driveTo(key, from)
            const query = yield* QueryStateMachine.make(key)
            const answer = { state: before.state, changed: false }
            assert.deepStrictEqual(yield* query[step], answer)
            assert.deepStrictEqual(yield* query.trigger(event), answer)
            assert.deepStrictEqual(yield* query.record, before)
          })
      )

      it.effect.each(cases(QueryState.tags))(
        "the predicates hold for a query that is $tag",
        ({ tag }) =>
          Effect.gen(function*() {
            const key = yield* freshKey
            yield* driveTo(key, tag)
            const query = yield* QueryStateMachine.make(key)
            const told = yield* Effect.all({
              isKnown: query.isKnown,
              isQueued: query.isQueued,
              isExecuting: query.isExecuting,
              isCompleted: query.isCompleted,
              isErrored: query.isErrored,
              isCancelled: query.isCancelled,
              isResetting: query.isResetting,
              isResetFailed: query.isResetFailed,
              isFinishedExecuting: query.isFinishedExecuting
            })
            assert.deepStrictEqual<Record<string, boolean>>(told, {
              ...Object.fromEntries(QueryState.tags.map((other) => [`is${other}`, other === tag])),
              isFinishedExecuting: tag === "Completed" || tag === "Errored"
            })
          })
      )

      it.effect("making a machine sends nothing to the store", () =>
        Effect.gen(function*() {
          const key = yield* freshKey
          const first = yield* QueryStateMachine.make(key)
          assert.deepStrictEqual(yield* callsFor(key), [])
          yield* first.enqueue
          const record = yield* first.record
          const second = yield* QueryStateMachine.make(key)
          assert.deepStrictEqual(yield* second.record, record)
        }))

      it.effect("a member is an effect that asks again on each run", () =>
        Effect.gen(function*() {
          const query = yield* QueryStateMachine.make(yield* freshKey)
          const { currentState, enqueue } = query
          const answers = yield* Effect.all([currentState, enqueue, enqueue, currentState])
          const queued = QueryState.make("Queued")
          assert.deepStrictEqual(answers, [
            QueryState.known,
            { state: queued, changed: true },
            { state: queued, changed: false },
            queued
          ])
        }))

      it.effect("one of two machines that do the same changes the query, and both get its state", () =>
        Effect.gen(function*() {
          const key = yield* freshKey
          const machines = yield* Effect.all([QueryStateMachine.make(key), QueryStateMachine.make(key)])
          const answers = yield* Effect.forEach(machines, ({ enqueue }) => enqueue, { concurrency: 2 })
          const state = QueryState.make("Queued")
          assert.sameDeepMembers(answers, [{ state, changed: true }, { state, changed: false }])
        }))

      it.effect("an event is triggered with all its options", () =>
        Effect.gen(function*() {
          const query = yield* QueryStateMachine.make(yield* freshKey)
          const lease = Duration.hours(1)
          yield* query.trigger("Queue", { holder: "worker 1", lease })
          const { changedAt = assert.fail("a changed record has a time"), state, version } = yield* query.record
          const claim = { fence: version, holder: "worker 1", expiresAt: DateTime.addDuration(changedAt, lease) }
          assert.deepStrictEqual(state, QueryState.make("Queued", { claim }))

          const reason = Reason.requested({ by: "ada", note: "wrong table" })
          const cancelled = QueryState.make("Cancelled", { reason })
          assert.deepStrictEqual(yield* query.trigger("Cancel", { fence: version, reason }), {
            state: cancelled,
            changed: true
          })
          const lost = yield* Effect.flip(query.trigger("Reset", { fence: version }))
          assert.deepStrictEqual(errorFields(lost), { _tag: "LeaseLost", fence: version, record: yield* query.record })
        }))

      it.effect.each(cases(pending))("a wait blocks while the query is $tag", ({ tag }) =>
        Effect.gen(function*() {
          const key = yield* freshKey
          yield* driveTo(key, tag)
          const query = yield* QueryStateMachine.make(key)
          const wait = yield* startToWait(query)
          yield* wait.looked(1)
          yield* query[ends[tag]]
          assert.deepStrictEqual(yield* wait.record, yield* query.record)
        }))

      it.effect.each(cases(determinate))(
        "a wait for a query that is $tag ends after one read",
        ({ tag }) =>
          Effect.gen(function*() {
            const key = yield* freshKey
            const record = yield* driveTo(key, tag)
            const query = yield* QueryStateMachine.make(key)
            const before = yield* callsFor(key)
            assert.deepStrictEqual(yield* query.waitUntilComplete(), record)
            assert.deepStrictEqual(yield* callsFor(key), [...before, "read"])
          })
      )

      it.effect("a wait goes on from Queued through Executing to Completed", () =>
        Effect.gen(function*() {
          const query = yield* QueryStateMachine.make(yield* freshKey)
          yield* query.enqueue
          const wait = yield* startToWait(query)
          yield* wait.looked(1)
          const { version } = yield* query.record
          const notifications = yield* Notifications.subscribe(query.key)
          yield* query.execute
          // The wait gets every notification before this, which subscribed later.
          yield* Effect.repeat(notifications.next, { until: (next) => next > version })
          yield* query.finish
          assert.deepStrictEqual(yield* wait.record, yield* query.record)
        }))

      it.effect("a query is reset and run again, and a wait follows it to its new result", () =>
        Effect.gen(function*() {
          const query = yield* QueryStateMachine.make(yield* freshKey)
          const versions: Array<number> = []
          const life = [
            ["enqueue", QueryState.make("Queued")],
            ["execute", QueryState.make("Executing")],
            ["raiseError", QueryState.make("Errored")],
            ["reset", QueryState.make("Resetting")],
            ["raiseError", QueryState.make("ResetFailed")],
            ["reset", QueryState.make("Resetting")],
            ["finishResetting", QueryState.known],
            ["enqueue", QueryState.make("Queued")]
          ] as const
          for (const [step, state] of life) {
            assert.deepStrictEqual(yield* query[step], { state, changed: true }, step)
            versions.push((yield* query.record).version)
          }
          const wait = yield* startToWait(query)
          yield* wait.looked(1)
          yield* query.execute
          yield* query.finish
          const completed = yield* wait.record
          assert.deepStrictEqual(completed.state, QueryState.completed)
          versions.push(completed.version)
          assert.deepStrictEqual(versions, [...new Set(versions)].toSorted((left, right) => left - right))
        }))
    }
  )
}
