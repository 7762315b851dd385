/** Reports of how far work has come, bounded in rate. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Progress from "../../domain/Progress.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import type { HeldClaim } from "../QueryStateMachine.ts"
import type { RedisStore } from "../RedisStore.ts"
import { InvalidInput, RedisStoreError } from "../RedisStoreError.ts"

export const interval: Duration.Duration = Duration.millis(250)

/**
 * Makes the reports on a claim, for as long as the scope is open. They are sent by a fiber of their own, which there is
 * while there is anything to send: what comes faster than the interval is left out, but for the latest. Each renews the
 * claim as well.
 */
export const make = (
  store: RedisStore["Service"],
  { key, version: fence }: QueryRecord,
  lease: Duration.Duration,
  scope: Scope.Scope
): HeldClaim["report"] => {
  let latest: Progress.Progress | undefined
  let isSending = false

  const send = (progress: Progress.Progress) =>
    store.renew(key, fence, lease, progress).pipe(
      // Whoever keeps the claim finds out for himself what that means.
      Effect.tapError((error) => Effect.logDebug("Progress was not recorded", error)),
      Effect.ignore
    )

  const sender: Effect.Effect<void> = Effect.suspend(() => {
    const progress = latest
    latest = undefined
    // In the same step as it is seen that there is no more, so that no report comes in between.
    isSending = progress !== undefined
    return progress === undefined
      ? Effect.void
      : send(progress).pipe(Effect.andThen(Effect.sleep(interval)), Effect.andThen(sender))
  })

  // Reports may come from many fibers, and any of those may be interrupted: there is one sender all the same.
  const offer = (progress: Progress.Progress) =>
    Effect.uninterruptible(Effect.suspend(() => {
      latest = progress
      if (isSending) return Effect.void
      isSending = true
      return Effect.forkIn(sender, scope)
    }))

  return (input) =>
    Effect.fromResult(Progress.make(input)).pipe(
      Effect.mapError((error) =>
        new RedisStoreError({
          operation: "report the progress of",
          key,
          reason: new InvalidInput({ issue: error.message })
        })
      ),
      Effect.flatMap(offer),
      Effect.asVoid
    )
}
