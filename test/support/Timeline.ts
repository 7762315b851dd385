/**
 * A test in virtual time: a plan of what happens when, and a log of what happened.
 *
 * It begins when the clock is first moved, so that everything on it is woken by the clock, and whatever comes of it at
 * once has happened before the clock moves on.
 */
import { assert } from "@effect/vitest"
import { Clock, Duration, Effect, type Exit, type Fiber, type Scope } from "effect"
import { RedisStoreFaults, Transition } from "effect-query-state"
import { TestClock } from "effect/testing"

/** What happened, and how many milliseconds after the beginning. */
export type Entry = readonly [atMillis: number, what: string]

export interface Timeline {
  /** What was noted, and every call of the store by its event or else by its operation, in the order of time. */
  readonly entries: ReadonlyArray<Entry>
  /** The same, without what is not named. */
  readonly only: (...what: ReadonlyArray<string>) => ReadonlyArray<Entry>
  readonly note: (what: string) => Effect.Effect<void>
  /** Does something at a time. */
  readonly at: <A, E, R>(
    time: Duration.Input,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<Fiber.Fiber<A, E>, never, R | Scope.Scope>
  /** Moves the clock to a time. */
  readonly until: (time: Duration.Input) => Effect.Effect<void>
  /** Lets a day pass in which nothing may happen. */
  readonly staysQuiet: Effect.Effect<void>
  /** Starts an effect at the beginning, lets time pass until it ends, and returns its exit and its time. */
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Ended<A, E>, never, R | Scope.Scope>
}

export interface Ended<A, E> {
  readonly exit: Exit.Exit<A, E>
  readonly atMillis: number
}

/** What goes wrong with a call; `nth` counts those with the same event or operation, from 1. */
export type Choose = (call: RedisStoreFaults.Call, nth: number) => RedisStoreFaults.Fault | undefined

const lead = Duration.seconds(1)
const longest = Duration.hours(1)

export const begin = Effect.fnUntraced(function*(choose: Choose = () => undefined) {
  const faults = yield* RedisStoreFaults.RedisStoreFaults
  const clock = yield* Clock.Clock
  const beginMillis = clock.currentTimeMillisUnsafe() + Duration.toMillis(lead)
  const sinceBegin = () => clock.currentTimeMillisUnsafe() - beginMillis
  const entries: Array<Entry> = []
  const counts = new Map<string, number>()

  yield* faults.inject((call) => {
    const what = call.operation === "compareAndSet"
      ? Transition.eventsOf(call.command.event).join(" ")
      : call.operation
    const nth = (counts.get(what) ?? 0) + 1
    counts.set(what, nth)
    entries.push([sinceBegin(), what])
    return choose(call, nth)
  })

  const at: Timeline["at"] = (time, effect) =>
    Effect.forkScoped(Effect.delay(effect, Duration.toMillis(time) - sinceBegin()))
  const until: Timeline["until"] = (time) => TestClock.adjust(Duration.toMillis(time) - sinceBegin())

  const timeline: Timeline = {
    entries,
    only: (...named) => entries.filter(([, what]) => named.includes(what)),
    note: (what) => Effect.sync(() => entries.push([sinceBegin(), what])),
    at,
    until,
    staysQuiet: Effect.gen(function*() {
      const count = entries.length
      yield* until("1 day")
      assert.strictEqual(entries.length, count)
    }),
    run: Effect.fnUntraced(function*(effect) {
      let atMillis = Number.NaN
      const fiber = yield* at(0, Effect.onExit(effect, () => Effect.sync(() => atMillis = sinceBegin())))
      yield* until(longest)
      const exit = fiber.pollUnsafe()
      return exit === undefined ? yield* Effect.die("it has not ended within the hour") : { exit, atMillis }
    })
  }
  return timeline
})
