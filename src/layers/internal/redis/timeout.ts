/** Bounds in time what answers through a callback. */
import * as Effect from "effect/Effect"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"

type Answer<A> = Effect.Effect<A, RedisStoreError.Failure>

/**
 * Waits for what `ask` is told to answer with, for so many milliseconds, and fails with `TimedOut` after them. What `ask`
 * returns is called where the answer is not wanted any more.
 *
 * One timer of Node, and no fiber to race against it: Node keeps the timers of one duration in a linked list.
 */
export const within = <A>(
  millis: number,
  ask: (answer: (answer: Answer<A>) => void) => (() => void) | void
): Answer<A> =>
  Effect.callback((resume) => {
    // @effect-diagnostics-next-line globalTimersInEffect:off -- see above; a socket lives in real time anyway
    const timer = setTimeout(() => {
      forget?.()
      resume(Effect.fail(new RedisStoreError.TimedOut({ after: millis })))
    }, millis)
    const forget = ask((answer) => {
      clearTimeout(timer)
      resume(answer)
    })
    return Effect.sync(() => {
      clearTimeout(timer)
      forget?.()
    })
  })
