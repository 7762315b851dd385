/** One fiber that waits: for a hint at a change of a query, or until a time is over. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { Changes, Listener, RedisStore } from "../RedisStore.ts"
import * as SharedTimers from "./sharedTimers.ts"

/** What ended a wait: a hint, its time, or its time after another fiber of this process has read the record. */
export type Wake = "hint" | "time" | "timeAfterRead"

// A small whole number takes no memory of its own, and a field that is always a number none for a change of its type
// (benchmark: 100,000 waiters of 100,000 queries).
const none = -1

/** Listens to a query for one fiber. It keeps one version, however many hints come. */
export class Waiter implements Listener, SharedTimers.Sleeper {
  private pendingHint = none
  private known = none
  private isRead = false
  private resume: ((effect: Effect.Effect<Wake>) => void) | undefined
  private timers: SharedTimers.SharedTimers | undefined
  private timer = none

  onHint(version: number): void {
    if (this.resume === undefined) this.pendingHint = Math.max(this.pendingHint, version)
    else if (version > this.known) this.wake("hint")
  }

  onRead(version: number): void {
    this.isRead = true
    // A version goes back where the record was deleted, or lost in a failover. No notification announces that.
    if (this.resume !== undefined && version < this.known) this.wake("hint")
    else this.onHint(version)
  }

  onTime(): void {
    this.wake(this.isRead ? "timeAfterRead" : "time")
  }

  /** Waits for a hint at a version newer than `known`, for `millis` at most. */
  wait(known: number, millis: number): Effect.Effect<Wake> {
    return Clock.clockWith((clock) =>
      Effect.callback((resume) => {
        const { pendingHint } = this
        this.pendingHint = none
        if (pendingHint > known || millis <= 0) return resume(Effect.succeed(pendingHint > known ? "hint" : "time"))
        this.known = known
        this.isRead = false
        this.resume = resume
        this.timers = SharedTimers.of(clock)
        this.timer = this.timers.set(this, millis)
        return Effect.sync(() => this.end())
      })
    )
  }

  protected wake(by: Wake): void {
    const { resume } = this
    this.end()
    // The resumed fiber may wait again before this returns.
    resume?.(Effect.succeed(by))
  }

  private end(): void {
    this.resume = undefined
    this.timers?.clear(this, this.timer)
  }
}

/**
 * Passes the hints of a query to a waiter, and answers whether all changes are announced. Without a subscription there are
 * no hints, and the wait relies on its schedule.
 */
export const subscribe = (
  store: RedisStore["Service"],
  key: QueryKey,
  waiter: Waiter
): Effect.Effect<Changes, never, Scope.Scope> =>
  Effect.catch(
    store.changes(key, waiter),
    (error) => Effect.as(Effect.logDebug("Waiting without notifications", error), { announcesAll: false })
  )
