/**
 * How the claim of work is renewed, and given up before another process can claim the query.
 */
import { assert } from "@effect/vitest"
import { Clock, type Duration, Effect } from "effect"
import { QueryError, QueryState, Reason, RedisStoreError, RedisStoreFaults } from "effect-query-state"
import { inMemory } from "../support/inMemory.ts"
import { withOpenSubscriptions } from "../support/openSubscriptions.ts"
import { failedWith, outcomeOf } from "../support/outcome.ts"
import { queryThatIs } from "../support/timedQuery.ts"
import type * as Timeline from "../support/Timeline.ts"
import type { ClaimedWork } from "./ClaimedWork.ts"

const hang = { _tag: "Hang" } as const
const fail = { _tag: "Fail", reason: new RedisStoreError.ConnectionLost({}) } as const
const failAfter = { _tag: "FailAfter", reason: new RedisStoreError.ConnectionLost({}) } as const
const delay = (duration: Duration.Input) => ({ _tag: "Delay", duration }) as const

type Faults = (nth: number) => RedisStoreFaults.Fault | undefined

const renewals = (...times: ReadonlyArray<number>): ReadonlyArray<Timeline.Entry> =>
  times.map((time) => [time, "renew"])

const every = (step: number, from: number, to: number) =>
  Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, index) => from + index * step)

// The lease is nine seconds, so that a third and a ninth of it are whole, and a tenth of it is left unused.
const holder = "A"
const lease = "9 seconds"

/** When the claim is renewed first: once its subscription is open, which starts that long after the claim. */
const subscribeAfter = 100

/** The clock of a process that can be frozen: then its monotonic time goes on, and no sleep ends. */
const freezable = Effect.map(Clock.Clock, (clock) => {
  let frozenNanos = 0n
  const monotonicTimeNanosUnsafe = () => clock.monotonicTimeNanosUnsafe() + frozenNanos
  const frozen: Clock.Clock = {
    currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
    currentTimeMillis: clock.currentTimeMillis,
    currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
    currentTimeNanos: clock.currentTimeNanos,
    monotonicTimeNanosUnsafe,
    monotonicTimeNanos: Effect.sync(monotonicTimeNanosUnsafe),
    sleep: (duration) => clock.sleep(duration)
  }
  return {
    clock: frozen,
    freeze: (millis: number) =>
      Effect.sync(() => {
        frozenNanos += BigInt(millis) * 1_000_000n
      })
  }
})

export const suite = (claimed: ClaimedWork): void => {
  const { claims, during, failure, from: [from = "Known"], name, start, success } = claimed

  /** Something goes wrong with the claim, the subscription, the nth renewal or the record of a success. */
  const choose = (
    faults: {
      readonly claim?: RedisStoreFaults.Fault
      readonly changes?: RedisStoreFaults.Fault
      readonly renew?: Faults
      readonly success?: RedisStoreFaults.Fault
    }
  ): Timeline.Choose =>
  (call, nth) => {
    if (call.operation === "renew") return faults.renew?.(nth)
    if (call.operation === "changes") return faults.changes
    if (call.operation !== "compareAndSet") return undefined
    return call.command.event === claims
      ? faults.claim
      : call.command.event === success.event
      ? faults.success
      : undefined
  }

  inMemory(
    `${name}: the claim is renewed once its subscription is open, and then every third of its lease while the work runs`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(from)
        const { atMillis, exit } = yield* timeline.run(start(query)(() => Effect.sleep("295 seconds")))
        assert.deepStrictEqual(timeline.only(claims, "renew", success.event), [
          [0, claims],
          ...renewals(...every(10_000, subscribeAfter, 295_000)),
          [295_000, success.event]
        ])
        assert.deepStrictEqual(outcomeOf(exit), { succeeded: undefined })
        assert.strictEqual(atMillis, 295_000)
      })
  )

  for (const changes of [hang, fail]) {
    inMemory(
      `${name}: the claim is renewed although the subscription is answered with ${changes._tag}`,
      () =>
        Effect.gen(function*() {
          const { query, timeline } = yield* queryThatIs(from, { choose: choose({ changes }) })
          const { exit } = yield* timeline.run(start(query)(() => Effect.sleep("20 seconds"), { lease }))
          assert.deepStrictEqual(
            timeline.only("renew"),
            renewals(...every(3_000, changes === hang ? 3_000 : subscribeAfter, 20_000))
          )
          assert.deepStrictEqual(outcomeOf(exit), { succeeded: undefined })
        })
    )
  }

  inMemory(
    `${name}: a failed renewal is tried again after a ninth of the lease, and the work continues`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(from, {
          choose: choose({ renew: (nth) => nth === 2 || nth === 3 ? fail : nth === 6 ? failAfter : undefined })
        })
        const { exit } = yield* timeline.run(start(query)(() => Effect.sleep("20 seconds"), { lease }))
        assert.deepStrictEqual(
          timeline.only("renew"),
          renewals(...[0, 3_000, 4_000, 5_000, 8_000, 11_000, 12_000, 15_000, 18_000].map((at) => subscribeAfter + at))
        )
        assert.deepStrictEqual(outcomeOf(exit), { succeeded: undefined })
      })
  )

  inMemory(
    `${name}: the claim is renewed until the outcome is recorded`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(from, { choose: choose({ success: delay("1 minute") }) })
        const { atMillis, exit } = yield* timeline.run(start(query)(() => Effect.sleep("5 seconds"), { lease }))
        assert.deepStrictEqual(timeline.only("renew"), renewals(...every(3_000, subscribeAfter, 65_000)))
        assert.deepStrictEqual(outcomeOf(exit), { succeeded: undefined })
        assert.strictEqual(atMillis, 65_000)
      })
  )

  inMemory(
    `${name}: a renewal in flight when the work ends is not waited for and does no harm`,
    () =>
      Effect.gen(function*() {
        for (const fault of [hang, delay("2 seconds")]) {
          const { query, timeline } = yield* queryThatIs(from, {
            choose: choose({ renew: (nth) => nth === 2 ? fault : undefined })
          })
          const { atMillis, exit } = yield* timeline.run(start(query)(() => Effect.sleep("4 seconds"), { lease }))
          assert.deepStrictEqual(outcomeOf(exit), { succeeded: undefined })
          assert.strictEqual(atMillis, 4_000)
        }
      })
  )

  // 8,100 milliseconds count from when the last answered renewal was sent, or else the claim.
  const givenUp: ReadonlyArray<
    readonly [what: string, renew: Faults, atMillis: number, renewed: ReadonlyArray<number>]
  > = [
    ["no renewal is answered", () => hang, 8_100, [subscribeAfter]],
    [
      "renewals are not answered any more",
      (nth) => nth >= 3 ? hang : undefined,
      subscribeAfter + 11_100,
      every(3_000, subscribeAfter, subscribeAfter + 6_000)
    ],
    ["every renewal fails", () => fail, 8_100, every(1_000, subscribeAfter, 8_000)],
    [
      "renewals fail from some time on",
      (nth) => nth >= 3 ? fail : undefined,
      subscribeAfter + 11_100,
      [subscribeAfter, subscribeAfter + 3_000, ...every(1_000, subscribeAfter + 6_000, subscribeAfter + 11_000)]
    ],
    [
      "renewals happen but are not answered",
      (nth) => nth >= 3 ? failAfter : undefined,
      subscribeAfter + 11_100,
      [subscribeAfter, subscribeAfter + 3_000, ...every(1_000, subscribeAfter + 6_000, subscribeAfter + 11_000)]
    ],
    [
      "the last answered renewal was slow",
      (nth) => nth === 2 ? delay("2 seconds") : nth > 2 ? hang : undefined,
      subscribeAfter + 11_100,
      [subscribeAfter, subscribeAfter + 3_000, subscribeAfter + 8_000]
    ],
    [
      "a renewal takes as long as the lease",
      (nth) => nth > 1 ? delay("8100 millis") : undefined,
      subscribeAfter + 8_100,
      [subscribeAfter, subscribeAfter + 3_000]
    ]
  ]

  for (const [what, renew, atMillis, renewed] of givenUp) {
    inMemory(
      `${name}: when ${what}, the work is interrupted while the claim still holds`,
      () =>
        Effect.gen(function*() {
          const { query, timeline } = yield* queryThatIs(from, { choose: choose({ renew }) })
          const states: Array<QueryState.QueryState> = []
          const work = Effect.never.pipe(
            Effect.onInterrupt(() =>
              query.currentState.pipe(
                Effect.map((state) => states.push(state)),
                Effect.orDie,
                Effect.andThen(timeline.note("interrupted"))
              )
            )
          )
          const fiber = yield* timeline.at(0, start(query)(() => work, { holder, lease }))
          yield* timeline.until("1 millis")
          const record = yield* query.record
          yield* timeline.until("1 minute")
          assert.deepStrictEqual(timeline.only("renew", "interrupted"), [...renewals(...renewed), [
            atMillis,
            "interrupted"
          ]])
          assert.deepStrictEqual(states.map(({ _tag }) => _tag), [during])
          const exit = fiber.pollUnsafe() ?? assert.fail("it has not ended")
          assert.deepStrictEqual(
            outcomeOf(exit),
            failedWith(new QueryError.LeaseLost({ fence: record.version, record }))
          )
          assert.deepStrictEqual(
            yield* query.currentState,
            QueryState.make(failure.to, { reason: Reason.leaseExpired(holder) })
          )
        })
    )
  }

  inMemory(
    `${name}: a lease counts from before its command was sent`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(from, {
          choose: choose({ claim: delay("2 seconds"), renew: () => hang })
        })
        const work = Effect.ensuring(Effect.andThen(timeline.note("began"), Effect.never), timeline.note("ended"))
        yield* timeline.at(0, start(query)(() => work, { lease }))
        yield* timeline.until("1 minute")
        assert.deepStrictEqual(timeline.only("began", "ended"), [[2_000, "began"], [8_100, "ended"]])
      })
  )

  inMemory(
    `${name}: a claim whose answer took too long is not used and lapses`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(from, { choose: choose({ claim: delay("8100 millis") }) })
        const fiber = yield* timeline.at(0, start(query)(() => Effect.never, { holder, lease }))
        yield* timeline.until("8100 millis")
        const record = yield* query.record
        assert.strictEqual(record.state._tag, during)
        assert.deepStrictEqual(
          outcomeOf(fiber.pollUnsafe() ?? assert.fail("it has not ended")),
          failedWith(new QueryError.LeaseLost({ fence: record.version, record }))
        )
        yield* timeline.until("17100 millis")
        assert.deepStrictEqual(
          yield* query.currentState,
          QueryState.make(failure.to, { reason: Reason.leaseExpired(holder) })
        )
      })
  )

  inMemory(
    `${name}: uninterruptible work that ends after its lease writes nothing`,
    () =>
      Effect.gen(function*() {
        const { query, timeline } = yield* queryThatIs(from, { choose: choose({ renew: () => hang }) })
        const zombie = yield* timeline.at(
          0,
          start(query)(() => Effect.uninterruptible(Effect.sleep("20 seconds")), { lease })
        )
        yield* timeline.at("10 seconds", Effect.all([query.reset, query.finishResetting, query.enqueue, query.execute]))
        yield* timeline.at("15 seconds", query.finish)
        yield* timeline.until("16 seconds")
        const { state, version } = yield* query.record
        assert.deepStrictEqual(state, QueryState.completed)
        yield* timeline.until("1 minute")
        const exit = zombie.pollUnsafe() ?? assert.fail("it has not ended")
        assert.strictEqual(exit._tag === "Failure" && exit.cause.reasons[0]?._tag, "Fail")
        assert.strictEqual((yield* query.record).version, version)
      })
  )

  inMemory(
    `${name}: work that ends after its process was frozen for 90 % of the lease sends no outcome, and gets LeaseLost`,
    () =>
      Effect.gen(function*() {
        for (const [frozenMillis, isSent] of [[8_099, true], [8_100, false]] as const) {
          const { query, timeline } = yield* queryThatIs(from)
          const { clock, freeze } = yield* freezable
          // No timer of the process is over yet when it goes on, and the lease still holds in the store.
          const work = Effect.andThen(Effect.sleep("50 millis"), freeze(frozenMillis - 50))
          const fiber = yield* timeline.at(
            0,
            Effect.provideService(start(query)(() => work, { lease }), Clock.Clock, clock)
          )
          yield* timeline.until("50 millis")
          const exit = fiber.pollUnsafe() ?? assert.fail("it has not ended")
          const record = yield* query.record
          assert.deepStrictEqual(timeline.only(claims, "renew", success.event), [
            [0, claims],
            ...(isSent ? [[50, success.event]] as const : [])
          ])
          assert.strictEqual(record.state._tag, isSent ? success.to : during)
          assert.deepStrictEqual(
            outcomeOf(exit),
            isSent
              ? { succeeded: undefined }
              : failedWith(new QueryError.LeaseLost({ fence: record.version, record }))
          )
        }
      })
  )

  inMemory(
    `${name}: a claim that is given up leaves no fibers and subscriptions`,
    () =>
      withOpenSubscriptions((open) =>
        Effect.gen(function*() {
          const { query, timeline } = yield* queryThatIs(from, { choose: choose({ renew: () => hang }) })
          const fiber = yield* timeline.at(0, start(query)(() => Effect.never, { lease }))
          yield* timeline.until("8 seconds")
          assert.strictEqual(yield* open, 1)
          yield* timeline.until("8100 millis")
          assert.isDefined(fiber.pollUnsafe())
          assert.strictEqual(yield* open, 0)
          yield* timeline.staysQuiet
        })
      )
  )
}
