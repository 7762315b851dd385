/** One fiber that waits: for a newer record of a query, or until a time is over. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import type { Changes, Listener, RedisStore, Source } from "../RedisStore.ts"
import * as SharedTimers from "./sharedTimers.ts"

/** What ended a wait: a newer record, a gap in the notifications, its time, or its time although another fiber has read meanwhile. */
export type Wake = QueryRecord | "gap" | "time" | "timeAfterRead"

// A small whole number takes no memory of its own, and a field that is always a number none for a change of its type
// (benchmark: 100,000 waiters of 100,000 queries).
const none = -1

/** Listens to a query for one fiber. It keeps one record, however many come. */
export class Waiter implements Listener, SharedTimers.Sleeper {
  private pending: QueryRecord | "gap" | undefined
  private known = none
  private readAtMillis = none
  private resume: ((effect: Effect.Effect<Wake>) => void) | undefined
  private timers: SharedTimers.SharedTimers | undefined
  private timer = none

  onRecord(record: QueryRecord, source: Source): void {
    // A notification proves nothing: it may be an old one, after a newer one was lost.
    if (source === "read" && this.timers !== undefined) this.readAtMillis = Math.floor(this.timers.nowMillis())
    // An older version is that of a record that was deleted or lost in a failover, or of a stale notification.
    if (record.version < this.known) this.onGap()
    else if (this.isNews(record)) this.pass(record)
  }

  onGap(): void {
    this.pass("gap")
  }

  /** Whether a record that is not older than the known one ends the wait. */
  protected isNews({ version }: QueryRecord): boolean {
    return version > this.known
  }

  onTime(): void {
    this.wake(this.readAtMillis === none ? "time" : "timeAfterRead")
  }

  /** How many milliseconds ago another fiber read the record, after `timeAfterRead`. */
  millisSinceRead(): number {
    return this.timers === undefined ? 0 : this.timers.nowMillis() - this.readAtMillis
  }

  /** Waits for a newer record than `known`, for `millis` at most. */
  wait(known: QueryRecord, millis: number): Effect.Effect<Wake> {
    return Clock.clockWith((clock) =>
      Effect.callback((resume) => {
        const { pending } = this
        this.pending = undefined
        this.known = known.version
        this.readAtMillis = none
        if (pending !== undefined && (pending === "gap" || this.isNews(pending))) return resume(Effect.succeed(pending))
        if (millis <= 0) return resume(Effect.succeed("time"))
        this.resume = resume
        this.timers = SharedTimers.of(clock)
        this.timer = this.timers.set(this, millis)
        return Effect.sync(() => this.end())
      })
    )
  }

  private pass(news: QueryRecord | "gap"): void {
    const { pending } = this
    if (this.resume !== undefined) this.wake(news)
    // A gap asks for a read, which finds everything else, too.
    else if (pending === undefined || news === "gap") this.pending = news
    else if (pending !== "gap") this.pending = news.version < pending.version ? "gap" : news
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
 * Passes the records of a query to a waiter, and returns whether all changes are published. Without a subscription none
 * come, and the wait relies on its schedule.
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
