/**
 * Options of a wait, and the schedules to choose from.
 *
 * @module
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { StillPending } from "../domain/QueryError.ts"

/**
 * How to wait.
 *
 * **Details**
 *
 * - `schedule`: when to read the record again while the query is pending and no notification comes. The wait ends with the
 *   schedule. Default: `backstopSchedule` if the store announces all changes, else `pollingSchedule`.
 * - `timeout`: how long to wait after the query was found pending. Default: as long as the schedule goes on.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly schedule?: Schedule.Schedule<unknown, StillPending> | undefined
  readonly timeout?: Duration.Input | undefined
}

/**
 * Schedule of a wait without notifications: it reads after 10 milliseconds, then after delays that grow by half each time,
 * up to 800 milliseconds, with 20 % of jitter, without end. So no delay is longer than a second.
 *
 * @category constants
 * @since 0.1.0
 */
export const pollingSchedule: Schedule.Schedule<unknown> = Schedule.min([
  Schedule.exponential("10 millis", 1.5),
  Schedule.spaced("800 millis")
]).pipe(Schedule.jittered)

/**
 * Schedule of a wait with notifications: it reads every 30 seconds, with 20 % of jitter, without end.
 *
 * **Details**
 *
 * A lost notification delays a wait by no more than that. Many waits of one process for one query share their reads: a read by
 * one counts for all, and each counts its next 30 seconds from there.
 *
 * @category constants
 * @since 0.1.0
 */
export const backstopSchedule: Schedule.Schedule<unknown> = Schedule.fromStep(
  // It has no state, and so takes no memory for each wait (benchmark: 100,000 waiters of 100,000 queries).
  Effect.succeed(() =>
    Effect.map(Random.nextBetween(24_000, 36_000), (millis): [unknown, Duration.Duration] => [
      undefined,
      Duration.millis(millis)
    ])
  )
)
