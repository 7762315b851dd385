/** Timers that many sleepers share. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

export interface Sleeper {
  readonly onTime: () => void
}

/** The sleepers whose time ends in the same millisecond, and the one fiber that sleeps for them. */
interface Timer {
  readonly sleepers: Set<Sleeper>
  fiber: Fiber.Fiber<void> | undefined
}

/**
 * The timers of one clock. 100,000 sleepers that each wait for some seconds share a few thousand timers: a sleeping fiber
 * takes more memory than the rest of a wait (benchmark: 100,000 waiters of 100,000 queries).
 */
class SharedTimers {
  private readonly byMillis = new Map<number, Timer>()
  private readonly clock: Clock.Clock

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  /** The monotonic time of the clock, in milliseconds. */
  nowMillis(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe()) / 1_000_000
  }

  /** Calls `sleeper` after `millis`, rounded up to a whole millisecond of the clock. Returns what `clear` takes. */
  set(sleeper: Sleeper, millis: number): number {
    const nowMillis = this.nowMillis()
    const atMillis = Math.ceil(nowMillis + millis)
    if (atMillis === Number.POSITIVE_INFINITY) return atMillis
    const existing = this.byMillis.get(atMillis)
    if (existing !== undefined) {
      existing.sleepers.add(sleeper)
      return atMillis
    }
    const timer: Timer = { sleepers: new Set([sleeper]), fiber: undefined }
    this.byMillis.set(atMillis, timer)
    // The sleep of a test clock can end at once: then the sleepers are called before this returns.
    timer.fiber = Effect.runFork(
      Effect.andThen(this.clock.sleep(Duration.millis(atMillis - nowMillis)), Effect.sync(() => this.end(atMillis)))
    )
    return atMillis
  }

  /** Lets `sleeper` sleep on. */
  clear(sleeper: Sleeper, atMillis: number): void {
    const timer = this.byMillis.get(atMillis)
    if (timer?.sleepers.delete(sleeper) !== true || timer.sleepers.size > 0) return
    this.byMillis.delete(atMillis)
    timer.fiber?.interruptUnsafe()
  }

  private end(atMillis: number): void {
    const timer = this.byMillis.get(atMillis)
    this.byMillis.delete(atMillis)
    timer?.sleepers.forEach((sleeper) => sleeper.onTime())
  }
}

export type { SharedTimers }

const byClock = new WeakMap<Clock.Clock, SharedTimers>()

/** The timers of a clock. */
export const of = (clock: Clock.Clock): SharedTimers => {
  const timers = byClock.get(clock) ?? new SharedTimers(clock)
  byClock.set(clock, timers)
  return timers
}
