/** Time-outs for callbacks, and for several requests together. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"

type Reply<A> = Effect.Effect<A, RedisStoreError.Failure>

/**
 * Calls `ask` with a callback and waits for its reply, or fails with `TimedOut` after `millis`. If the reply is no longer
 * wanted, it calls the function that `ask` returned.
 *
 * It uses one timer of Node and races no fibers: Node keeps the timers of one duration in a linked list (benchmark:
 * transitions a second, 256 at a time).
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

/** Limits the time of several requests together. Each of them already has its own limit. */
export const boundedBy =
  (duration: Duration.Duration) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | RedisStoreError.TimedOut, R> =>
    Effect.timeoutOrElse(effect, {
      duration,
      orElse: () => Effect.fail(new RedisStoreError.TimedOut({ after: Duration.toMillis(duration) }))
    })
