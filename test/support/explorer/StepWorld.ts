/**
 * A world in which time and fibers move only on a call, and have moved when it returns: without system timers, promises
 * and randomness.
 */
import { Clock, Context, Duration, Effect, Random, Scheduler } from "effect"

export interface StepWorld {
  readonly clock: StepClock
  /** What a fiber has to be run with to be of this world. */
  readonly environment: Context.Context<never>
  /** Runs all fibers until each of them waits. */
  readonly settle: () => void
}

export const make = (nowMillis: number): StepWorld => {
  const turns: Array<() => void> = []
  const settle = () => {
    for (let turn = turns.shift(); turn !== undefined; turn = turns.shift()) turn()
  }
  const scheduler = new Scheduler.MixedScheduler("sync", (turn) => {
    turns.push(turn)
    return () => turns.splice(turns.indexOf(turn), 1)
  })
  const clock = new StepClock(nowMillis, settle)
  const environment = Context.make(Clock.Clock, clock).pipe(
    Context.add(Scheduler.Scheduler, scheduler),
    // Half way between the bounds, so that jitter changes no delay.
    Context.add(Random.Random, { nextDoubleUnsafe: () => 0.5, nextIntUnsafe: () => 0 })
  )
  return { clock, environment, settle }
}

interface Sleeper {
  readonly untilMillis: number
  readonly wake: () => void
}

class StepClock implements Clock.Clock {
  private nowMillis: number
  private readonly sleepers = new Set<Sleeper>()
  private readonly settle: () => void

  constructor(nowMillis: number, settle: () => void) {
    this.nowMillis = nowMillis
    this.settle = settle
  }

  /** When the next sleeper wakes, if there is one. */
  get nextMillis(): number | undefined {
    return this.next?.untilMillis
  }

  get sleeperCount(): number {
    return this.sleepers.size
  }

  /** Wakes all sleepers that are due by then, one after another, each at its time. */
  moveTo(millis: number): void {
    for (let sleeper = this.next; sleeper !== undefined && sleeper.untilMillis <= millis; sleeper = this.next) {
      this.sleepers.delete(sleeper)
      this.nowMillis = sleeper.untilMillis
      sleeper.wake()
      this.settle()
    }
    this.nowMillis = millis
  }

  moveBy(millis: number): void {
    this.moveTo(this.nowMillis + millis)
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
