/** Reports of progress, bounded in rate. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Progress from "../../domain/Progress.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import { type QueryClaim, reportInterval } from "../QueryClaim.ts"
import type { RedisStore } from "../RedisStore.ts"
import { InvalidInput, RedisStoreError } from "../RedisStoreError.ts"

/**
 * Makes the reports on a claim, for as long as the scope is open. A fiber sends them; it lives while there is progress to
 * send. Between two sends only the latest progress is kept. Each send renews the lease as well.
 */
export const make = (
  store: RedisStore["Service"],
  { key, version: fence }: QueryRecord,
  lease: Duration.Duration,
  scope: Scope.Scope
): QueryClaim["report"] => {
  let latest: Progress.Progress | undefined
  let isSending = false

  const send = (progress: Progress.Progress) =>
    store.renew(key, fence, lease, { progress }).pipe(
      // The heartbeat finds out by itself what the error means for the claim.
      Effect.tapError((error) => Effect.logDebug("Progress was not recorded", error)),
      Effect.ignore
    )

  const sender: Effect.Effect<void> = Effect.suspend(() => {
    const progress = latest
    latest = undefined
    // Set in the same synchronous step, so that no report comes in between.
    isSending = progress !== undefined
    return progress === undefined
      ? Effect.void
      : send(progress).pipe(Effect.andThen(Effect.sleep(reportInterval)), Effect.andThen(sender))
  })

  // Many fibers may report, and each may be interrupted: there is one sender all the same.
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
