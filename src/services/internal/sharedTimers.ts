/** Rings when a time is over, for many at once. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

export interface Sleeper {
  readonly ring: () => void
}

/** The sleepers whose time is over in the same millisecond, and the one fiber that sleeps for them. */
interface Alarm {
  readonly sleepers: Set<Sleeper>
  fiber: Fiber.Fiber<void> | undefined
}

/**
 * Alarms on one clock. A hundred thousand sleepers, each told to look again within some seconds, share some thousand timers:
 * a fiber that sleeps takes more memory than all the rest of a wait.
 */
class Alarms {
  private readonly byMillis = new Map<number, Alarm>()
  private readonly clock: Clock.Clock

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  /** Rings `sleeper` after so many milliseconds, rounded up to the next one of the clock; answers what turns that off. */
  set(sleeper: Sleeper, millis: number): number {
    const nowMillis = Number(this.clock.monotonicTimeNanosUnsafe()) / 1_000_000
    const atMillis = Math.ceil(nowMillis + millis)
    if (atMillis === Number.POSITIVE_INFINITY) return atMillis
    const there = this.byMillis.get(atMillis)
    if (there !== undefined) {
      there.sleepers.add(sleeper)
      return atMillis
    }
    const alarm: Alarm = { sleepers: new Set([sleeper]), fiber: undefined }
    this.byMillis.set(atMillis, alarm)
    // There are clocks by which all time is over at once; then this rings before it returns.
    alarm.fiber = Effect.runFork(
      Effect.andThen(this.clock.sleep(Duration.millis(atMillis - nowMillis)), Effect.sync(() => this.ring(atMillis)))
    )
    return atMillis
  }

  /** Turns off what `set` has answered. */
  turnOff(sleeper: Sleeper, atMillis: number): void {
    const alarm = this.byMillis.get(atMillis)
    if (alarm?.sleepers.delete(sleeper) !== true || alarm.sleepers.size > 0) return
    this.byMillis.delete(atMillis)
    alarm.fiber?.interruptUnsafe()
  }

  private ring(atMillis: number): void {
    const alarm = this.byMillis.get(atMillis)
    this.byMillis.delete(atMillis)
    alarm?.sleepers.forEach((sleeper) => sleeper.ring())
  }
}

export type { Alarms }

const byClock = new WeakMap<Clock.Clock, Alarms>()

/** The alarms on a clock, for all who go by it. */
export const on = (clock: Clock.Clock): Alarms => {
  const alarms = byClock.get(clock) ?? new Alarms(clock)
  byClock.set(clock, alarms)
  return alarms
}
