/**
 * A clock that is moved by hand, in steps that end before the caller goes on: no timer of the system, no promise.
 */
import { type Clock, Duration, Effect } from "effect"

interface Sleeper {
  readonly untilMillis: number
  readonly wake: () => void
}

export class StepClock implements Clock.Clock {
  private nowMillis: number
  private readonly sleepers = new Set<Sleeper>()
  private readonly settle: () => void

  /** `settle` runs whatever can run, until all that is left waits. */
  constructor(nowMillis: number, settle: () => void) {
    this.nowMillis = nowMillis
    this.settle = settle
  }

  /** When the next sleeper is to wake, if anybody sleeps. */
  get nextMillis(): number | undefined {
    return this.next?.untilMillis
  }

  /** Wakes everybody whose time comes by then, one after another, each at its own time. */
  moveTo(millis: number): void {
    for (let sleeper = this.next; sleeper !== undefined && sleeper.untilMillis <= millis; sleeper = this.next) {
      this.sleepers.delete(sleeper)
      this.nowMillis = sleeper.untilMillis
      sleeper.wake()
      this.settle()
    }
    this.nowMillis = millis
  }

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const untilMillis = this.nowMillis + Duration.toMillis(duration)
      if (untilMillis <= this.nowMillis) return resume(Effect.void)
      const sleeper = { untilMillis, wake: () => resume(Effect.void) }
      this.sleepers.add(sleeper)
      return Effect.sync(() => this.sleepers.delete(sleeper))
    })
  }

  currentTimeMillisUnsafe(): number {
    return this.nowMillis
  }

  currentTimeNanosUnsafe(): bigint {
    return BigInt(Math.round(this.nowMillis * 1_000_000))
  }

  monotonicTimeNanosUnsafe(): bigint {
    return this.currentTimeNanosUnsafe()
  }

  readonly currentTimeMillis: Effect.Effect<number> = Effect.sync(() => this.currentTimeMillisUnsafe())
  readonly currentTimeNanos: Effect.Effect<bigint> = Effect.sync(() => this.currentTimeNanosUnsafe())
  readonly monotonicTimeNanos: Effect.Effect<bigint> = Effect.sync(() => this.monotonicTimeNanosUnsafe())

  private get next(): Sleeper | undefined {
    let next: Sleeper | undefined
    for (const sleeper of this.sleepers) {
      if (next === undefined || sleeper.untilMillis < next.untilMillis) next = sleeper
    }
    return next
  }
}
