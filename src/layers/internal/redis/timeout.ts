/** Bounds in time what answers through a callback, and what takes several requests. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"

type Reply<A> = Effect.Effect<A, RedisStoreError.Failure>

/**
 * Waits for the reply that `ask` is given a callback for, and fails with `TimedOut` after so many milliseconds. What `ask`
 * returns is called when the reply is not wanted any more.
 *
 * One timer of Node, and no fiber to race against it: Node keeps the timers of one duration in a linked list. The row
 * "transitions a second, 256 at a time" of the benchmark needs that.
 */
export const callbackWithTimeout = <A>(
  millis: number,
  ask: (reply: (reply: Reply<A>) => void) => (() => void) | void
): Reply<A> =>
  Effect.callback((resume) => {
    // @effect-diagnostics-next-line globalTimersInEffect:off -- see above; a socket lives in real time anyway
    const timer = setTimeout(() => {
      forget?.()
      resume(Effect.fail(new RedisStoreError.TimedOut({ after: Math.ceil(millis) })))
    }, millis)
    const forget = ask((reply) => {
      clearTimeout(timer)
      resume(reply)
    })
    return Effect.sync(() => {
      clearTimeout(timer)
      forget?.()
    })
  })

/** Bounds what consists of several requests, each of which is bounded already. */
export const boundedBy =
  (duration: Duration.Duration) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | RedisStoreError.TimedOut, R> =>
    Effect.timeoutOrElse(effect, {
      duration,
      orElse: () => Effect.fail(new RedisStoreError.TimedOut({ after: Duration.toMillis(duration) }))
    })
