/** Wakes one fiber: at a hint that is news to it, or when its time is over. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Listener } from "../RedisStore.ts"
import { type Alarms, on as alarmsOn, type Sleeper } from "./alarms.ts"

/** What ended a wait: a hint, or its time; and whether somebody else has looked meanwhile. */
export type Wake = "hint" | "time" | "looked"

// A small whole number takes no room of its own; versions are larger.
const nothing = -1

/** Listens to a query for one fiber, which waits or is to wait. However much it hears, it holds one number. */
export class Bell implements Listener, Sleeper {
  private untaken = nothing
  private known = nothing
  private isLookedAt = false
  private resume: ((effect: Effect.Effect<Wake>) => void) | undefined
  private alarms: Alarms | undefined
  private atMillis = nothing

  onHint(version: number): void {
    if (this.resume === undefined) this.untaken = Math.max(this.untaken, version)
    else if (version > this.known) this.wake("hint")
  }

  onRead(version: number): void {
    this.isLookedAt = true
    // A record that has gone back was deleted, or lost in a failover, and nobody tells of that.
    if (this.resume !== undefined && version < this.known) this.wake("hint")
    else this.onHint(version)
  }

  /** Ends the wait, since its time is over. */
  ring(): void {
    this.wake(this.isLookedAt ? "looked" : "time")
  }

  /**
   * Waits for a hint at a version that is newer than the known one, for so many milliseconds at most. There is no need to
   * look if the time is over and somebody else has looked meanwhile.
   */
  wait(known: number, millis: number): Effect.Effect<Wake> {
    return Clock.clockWith((clock) =>
      Effect.callback((resume) => {
        const { untaken } = this
        this.untaken = nothing
        if (untaken > known || millis <= 0) return resume(Effect.succeed(untaken > known ? "hint" : "time"))
        this.known = known
        this.isLookedAt = false
        this.resume = resume
        this.alarms = alarmsOn(clock)
        this.atMillis = this.alarms.set(this, millis)
        return Effect.sync(() => this.end())
      })
    )
  }

  protected wake(by: Wake): void {
    const { resume } = this
    this.end()
    // Whoever is resumed may wait again before this returns.
    resume?.(Effect.succeed(by))
  }

  private end(): void {
    this.resume = undefined
    this.alarms?.turnOff(this, this.atMillis)
  }
}
