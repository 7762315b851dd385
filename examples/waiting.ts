/**
 * The ways in which a wait ends: outcome, time-out, schedule, race, interruption; for one query and for many.
 *
 *     npx tsx examples/waiting.ts
 */
import { Console, Effect, Fiber, Result, Schedule, Stream } from "effect"
import { QueryFleet, QueryKey, QueryState, QueryStateMachine } from "effect-query-state"
import { db, StoreLayer } from "./support/StoreLayer.ts"

const main = Effect.gen(function*() {
  const forecast = yield* QueryStateMachine.make(yield* QueryKey.make({ db, query: "forecast" }))
  yield* forecast.enqueue
  yield* forecast.execute

  // A time-out. The error holds the record that was seen last.
  const early = yield* Effect.flip(forecast.waitUntilComplete({ timeout: "50 millis" }))
  yield* Console.log(early.message)

  // A schedule: read three times, then give up.
  const threeTimes = Schedule.spaced("20 millis").pipe(Schedule.upTo({ times: 3 }))
  const gaveUp = yield* Effect.flip(forecast.waitUntilComplete({ schedule: threeTimes }))
  yield* Console.log(gaveUp._tag)

  // A race: the loser is interrupted, and nothing leaks.
  const cached = Effect.as(Effect.sleep("20 millis"), "a forecast from yesterday")
  yield* Console.log(yield* Effect.race(forecast.waitUntilComplete(), cached))

  // An interruption ends the wait, not the query.
  const impatient = yield* Effect.forkChild(forecast.waitUntilComplete())
  yield* Fiber.interrupt(impatient)
  yield* Console.log(`After that the query ${QueryState.format(yield* forecast.currentState)}`)

  // The outcome, as soon as it is recorded.
  const patient = yield* Effect.forkChild(forecast.waitUntilComplete({ timeout: "1 minute" }))
  yield* forecast.finish
  yield* Console.log((yield* Fiber.join(patient)).state._tag)

  // Many queries at once, each outcome as it comes, with a time-out for each.
  const fleet = yield* QueryFleet.make
  const keys = yield* Effect.forEach(["stock", "churn"], (query) => QueryKey.make({ db, query }))
  yield* fleet.triggerMany("Queue", keys)
  yield* fleet.triggerMany("Cancel", keys.slice(0, 1))
  yield* fleet.waitAll(keys, { timeout: "200 millis" }).pipe(
    Stream.runForEach(({ key, result }) =>
      Console.log(
        key.query,
        Result.match(result, { onSuccess: ({ state }) => state._tag, onFailure: ({ _tag }) => _tag })
      )
    )
  )

  // One deadline for all of them.
  const outcomes = yield* Effect.timeoutOption(fleet.waitAllCollect(keys), "50 millis")
  yield* Console.log(outcomes._tag)
})

await Effect.runPromise(Effect.provide(main, StoreLayer))

/* Prints:

Stopped waiting: query warehouse/forecast is currently running. Wait again, longer, or cancel the query
StillPending
a forecast from yesterday
After that the query is currently running
Completed
stock Cancelled
churn StillPending
None
*/
