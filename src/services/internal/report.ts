/** Reports of how far work has come, bounded in rate. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Progress from "../../domain/Progress.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import type { HeldClaim } from "../QueryStateMachine.ts"
import type { RedisStore } from "../RedisStore.ts"
import { InvalidInput, RedisStoreError } from "../RedisStoreError.ts"

export const interval: Duration.Duration = Duration.millis(250)

/**
 * Makes the reports on a claim, for as long as the scope is open. They are sent by a fiber of their own, which there is from
 * the first one on: what comes faster than the interval is left out, but for the latest. Each renews the claim as well.
 */
export const make = (
  store: RedisStore["Service"],
  { key, version: fence }: QueryRecord,
  lease: Duration.Duration,
  scope: Scope.Scope
): HeldClaim["report"] => {
  let latest: Queue.Queue<Progress.Progress> | undefined

  const send = (progress: Progress.Progress) =>
    store.renew(key, fence, lease, progress).pipe(
      // Whoever keeps the claim finds out for himself what that means.
      Effect.tapError((error) => Effect.logDebug("Progress was not recorded", error)),
      Effect.ignore
    )

  const open = Effect.gen(function*() {
    const queue = yield* Queue.sliding<Progress.Progress>(1)
    latest = queue
    yield* Queue.take(queue).pipe(
      Effect.flatMap(send),
      Effect.andThen(Effect.sleep(interval)),
      Effect.forever,
      Effect.forkIn(scope)
    )
    return queue
  })

  return (input) =>
    Effect.fromResult(Progress.make(input)).pipe(
      Effect.mapError((error) =>
        new RedisStoreError({
          operation: "report the progress of",
          key,
          reason: new InvalidInput({ issue: error.message })
        })
      ),
      Effect.flatMap((progress) =>
        Effect.flatMap(
          Effect.suspend(() => latest === undefined ? open : Effect.succeed(latest)),
          (queue) => Queue.offer(queue, progress)
        )
      ),
      Effect.asVoid
    )
}
