/** Outcomes of claimed work that cannot be recorded at once. */
import { assert } from "@effect/vitest"
import { Effect, Logger, Schema } from "effect"
import { QueryError, QueryState, Reason, RedisStoreError, type RedisStoreFaults } from "effect-query-state"
import * as ClaimedWork from "../conformance/ClaimedWork.ts"
import { inMemory } from "../support/inMemory.ts"
import { failedWith, outcomeOf } from "../support/outcome.ts"
import { queryThatIs } from "../support/timedQuery.ts"

class WorkFailed extends Schema.TaggedError<WorkFailed>()("WorkFailed", {}) {}

const connectionLost = new RedisStoreError.ConnectionLost({})
const timedOut = new RedisStoreError.TimedOut({ after: 5_000 })

/** What happens to each try during the outage. */
const faults: ReadonlyArray<RedisStoreFaults.Fault> = [
  ...[
    connectionLost,
    timedOut,
    new RedisStoreError.Unavailable({}),
    new RedisStoreError.ReadOnly({}),
    new RedisStoreError.OutOfMemory({})
  ].map((reason) => ({ _tag: "Fail", reason }) as const),
  { _tag: "FailAfter", reason: connectionLost },
  { _tag: "FailAfter", reason: timedOut }
]

/** When the outage is over for each; the last renewal before it was at the beginning, so that its lease ends at 30 s. */
const orders = [
  { first: "outcomes", settling: "14 seconds", renewing: "19 seconds" },
  { first: "renewals", settling: "19 seconds", renewing: "14 seconds" },
  { first: "renewals of leases that would be over", settling: "32 seconds", renewing: "14 seconds" }
] as const

const isSettling = ({ failure, interruption, success }: ClaimedWork.ClaimedWork, call: RedisStoreFaults.Call) =>
  call.operation === "compareAndSet" &&
  [failure, interruption, success].some(({ event }) => event === call.command.event)

/** A query whose outcome and whose renewals go wrong from 1 s on, until each is healed. */
const inOutage = Effect.fnUntraced(function*(claimed: ClaimedWork.ClaimedWork, fault: RedisStoreFaults.Fault) {
  const broken = new Set<"settling" | "renewing">()
  const { from: [from = "Known"] } = claimed
  const { timeline, ...others } = yield* queryThatIs(from, {
    choose: (call) =>
      (broken.has("renewing") && call.operation === "renew") || (broken.has("settling") && isSettling(claimed, call))
        ? fault
        : undefined
  })
  yield* timeline.at(
    "1 second",
    Effect.sync(() => {
      broken.add("settling")
      broken.add("renewing")
    })
  )
  const heal = (what: "settling" | "renewing") => Effect.sync(() => broken.delete(what))
  return { ...others, timeline, heal }
})

const endings = [
  ["success", Effect.succeed(42)],
  ["failure", Effect.fail(new WorkFailed())],
  ["interruption", Effect.interrupt]
] as const

const warnings = () => {
  const messages: Array<unknown> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel === "Warn") messages.push(message)
  })
  return { messages, layer: Logger.layer([logger]) }
}

for (const claimed of [ClaimedWork.executing, ClaimedWork.resetting]) {
  for (const fault of faults) {
    const how = "reason" in fault ? `${fault._tag} ${fault.reason._tag}` : fault._tag
    for (const order of orders) {
      inMemory(
        `${claimed.name}: an outcome is recorded once through an outage (${how}), ${order.first} first`,
        () =>
          Effect.gen(function*() {
            for (const [ending, end] of endings) {
              const { heal, query, timeline } = yield* inOutage(claimed, fault)
              const { layer, messages } = warnings()
              const work = Effect.andThen(Effect.sleep("7 seconds"), end)
              const fiber = yield* timeline.at(0, Effect.provide(claimed.start(query)(() => work), layer))
              yield* timeline.at(order.settling, heal("settling"))
              yield* timeline.at(order.renewing, heal("renewing"))
              yield* timeline.until("13 seconds")
              const during = yield* query.record
              const wasRecorded = during.state._tag === claimed[ending].to
              assert.strictEqual(wasRecorded, fault._tag === "FailAfter")
              yield* timeline.until("40 seconds")
              assert.deepStrictEqual(
                outcomeOf(fiber.pollUnsafe() ?? assert.fail("it has not ended")),
                outcomeOf(yield* Effect.exit(end))
              )
              const after = yield* query.record
              assert.strictEqual(after.state._tag, claimed[ending].to)
              if (wasRecorded) assert.deepStrictEqual(after, during)
              assert.isAbove(timeline.only(claimed[ending].event).length, 1)
              assert.strictEqual(messages.length, 1)
            }
          })
      )
    }
  }

  const lasting: ReadonlyArray<RedisStoreError.Failure> = [
    new RedisStoreError.AccessDenied({}),
    new RedisStoreError.NotReplicated({ wanted: 1, acknowledged: 0 }),
    new RedisStoreError.WrongType({ redisKey: "k" }),
    new RedisStoreError.UnknownState({ raw: "?" }),
    new RedisStoreError.InvalidRecord({ issue: "?" }),
    new RedisStoreError.UnexpectedReply({ reply: "?" }),
    new RedisStoreError.InvalidInput({ issue: "?" })
  ]

  for (const reason of lasting) {
    inMemory(
      `${claimed.name}: an outcome that fails with ${reason._tag} is not tried again`,
      () =>
        Effect.gen(function*() {
          const { key, query, timeline } = yield* inOutage(claimed, { _tag: "Fail", reason })
          const { atMillis, exit } = yield* timeline.run(claimed.start(query)(() => Effect.sleep("7 seconds")))
          assert.strictEqual(atMillis, 7_000)
          const error = new RedisStoreError.RedisStoreError({ operation: "compareAndSet", key, reason })
          assert.deepStrictEqual(outcomeOf(exit), failedWith(error))
          assert.strictEqual(timeline.only(claimed.success.event).length, 1)
        })
    )
  }

  inMemory(`${claimed.name}: a try that is never answered is given up with the lease`, () =>
    Effect.gen(function*() {
      const { key, query, timeline } = yield* inOutage(claimed, { _tag: "Hang" })
      const { atMillis, exit } = yield* timeline.run(claimed.start(query)(() => Effect.sleep("7 seconds")))
      const renewedAt = timeline.only("renew").findLast(([at]) => at < 1_000)?.[0] ?? 0
      assert.strictEqual(atMillis, renewedAt + 30_000)
      const reason = new RedisStoreError.TimedOut({ after: atMillis - 7_000 })
      assert.deepStrictEqual(
        outcomeOf(exit),
        failedWith(new RedisStoreError.RedisStoreError({ operation: "record the outcome of", key, reason }))
      )
    }))

  inMemory(
    `${claimed.name}: a store that renews the lease and records nothing is given up after one lease`,
    () =>
      Effect.gen(function*() {
        const fault = { _tag: "Fail", reason: connectionLost } as const
        const { heal, key, query, timeline } = yield* inOutage(claimed, fault)
        yield* timeline.at("8 seconds", heal("renewing"))
        const { atMillis, exit } = yield* timeline.run(claimed.start(query)(() => Effect.sleep("7 seconds")))
        assert.isAbove(atMillis, 33_000)
        assert.isAtMost(atMillis, 35_000)
        const error = new RedisStoreError.RedisStoreError({ operation: "compareAndSet", key, reason: fault.reason })
        assert.deepStrictEqual(outcomeOf(exit), failedWith(error))
      })
  )
}

const byAda = Reason.requested({ by: "ada" })

for (
  const { reason, isKnown } of [
    { reason: new RedisStoreError.Unavailable({}), isKnown: true },
    { reason: connectionLost, isKnown: false }
  ]
) {
  inMemory(
    `a run that is cancelled in an outage with ${reason._tag} fails with ${isKnown ? "that" : "the store's error"}`,
    () =>
      Effect.gen(function*() {
        const { heal, key, query, timeline } = yield* inOutage(ClaimedWork.executing, { _tag: "Fail", reason })
        const cancel = Effect.andThen(heal("settling"), query.trigger("Cancel", { reason: byAda }))
        yield* timeline.at("9 seconds", cancel)
        const { exit } = yield* timeline.run(query.withExecution(() => Effect.sleep("7 seconds")))
        assert.deepStrictEqual(
          outcomeOf(exit),
          failedWith(
            isKnown
              ? new QueryError.QueryCancelled({ key, reason: byAda })
              : new RedisStoreError.RedisStoreError({ operation: "compareAndSet", key, reason })
          )
        )
        assert.deepStrictEqual(yield* query.currentState, QueryState.make("Cancelled", { reason: byAda }))
      })
  )
}
