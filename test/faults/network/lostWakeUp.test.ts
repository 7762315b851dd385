/** Waits whose query is completed at any moment around their subscription. */
import { assert, it } from "@effect/vitest"
import { Array as Arr, Duration, Effect, Fiber, Random, Redacted, Result, Schedule } from "effect"
import { type QueryState, QueryStateMachine, RedisStoreFaults, RedisStoreLive } from "effect-query-state"
import { freshKey } from "../../support/queries.ts"
import * as RedisServer from "../../support/RedisServer.ts"

const waits = 10_000
const atOnce = 500

/** As long as it takes so many at once to read and to subscribe. */
const jitter = Duration.millis(100)

/** Begins a wait, completes its query after a random time, and returns both results. */
const waitAndComplete = Effect.fnUntraced(function*(schedule: Schedule.Schedule<unknown>) {
  const query = yield* QueryStateMachine.make(yield* freshKey)
  yield* query.enqueue
  const waiting = yield* Effect.forkChild(
    Effect.result(query.waitUntilComplete({ schedule, timeout: "20 seconds" })),
    { startImmediately: true }
  )
  yield* Effect.sleep(Duration.times(jitter, yield* Random.next))
  const { state } = yield* query.cancel
  const result = yield* Fiber.join(waiting)
  return { state, waited: Result.map(result, (record) => record.state) }
})

const completeAll = Effect.fnUntraced(function*(schedule: Schedule.Schedule<unknown>) {
  const ends = yield* Effect.replicateEffect(waitAndComplete(schedule), waits, { concurrency: atOnce })
  const results = ends.map(({ waited }) => waited)
  assert.deepStrictEqual(Arr.getFailures(results), [])
  const states: ReadonlyArray<QueryState.QueryState> = Arr.getSuccesses(results)
  assert.deepStrictEqual(states, ends.map(({ state }) => state))
})

const onOwnServer = <A, E, R>(test: Effect.Effect<A, E, R>) =>
  Effect.flatMap(
    RedisServer.acquire(),
    ({ url }) => Effect.provide(test, RedisStoreFaults.layer(RedisStoreLive.layer({ url: Redacted.make(url) })))
  )

it.live(
  "none of 10,000 waits that only a notification can end hangs",
  () => onOwnServer(completeAll(Schedule.spaced("1 hour"))),
  { timeout: 90_000 }
)

it.live(
  "all of 10,000 waits without notifications end by their schedule",
  () =>
    onOwnServer(Effect.gen(function*() {
      const { injectNotifications } = yield* RedisStoreFaults.RedisStoreFaults
      yield* injectNotifications(() => [])
      yield* completeAll(Schedule.spaced("100 millis"))
    })),
  { timeout: 90_000 }
)
