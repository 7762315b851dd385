/** The heartbeat of a claim: it renews the lease until the claim is lost. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { LeaseLost, QueryCancelled } from "../../domain/QueryError.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import type { Reason } from "../../domain/Reason.ts"
import type { RedisStore } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"
import { subscribe, Waiter } from "./waiter.ts"

/** Why a claim ended before its work did. */
export type Lost = LeaseLost | QueryCancelled

/** Part of a lease that is left unused: the clocks of two machines differ in pace, and an interruption takes its time. */
const safety = 0.1

/** How long work takes at least for which a subscription is worth its cost. */
const subscribeAfter = Duration.millis(100)

/** When the lease was given or renewed last, by the monotonic clock: before the command was sent that did it. */
export interface Renewed {
  atMillis: number
}

/** How much of a lease is used: a claim that was not renewed for so long is given up. */
export const usableMillis = (lease: Duration.Duration): number => Duration.toMillis(lease) * (1 - safety)

/** Whether the heartbeat gave a claim up by its own clock, and did not hear of its end from the store. */
export const isGivenUp = (lost: Lost, fence: number): boolean =>
  lost._tag === "LeaseLost" && lost.record.version === fence

export const monotonicMillis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1_000_000)

/** Whether a run ended without anybody having decided that it should. */
export const isHandedOver = ({ _tag }: Reason): boolean => _tag === "LeaseExpired" || _tag === "Interrupted"

const cancelledOrLost = (lost: LeaseLost): Lost => {
  const { key, state } = lost.record
  return state._tag === "Cancelled" && !isHandedOver(state.reason)
    ? new QueryCancelled({ key, reason: state.reason })
    : lost
}

/** Turns `LeaseLost` into `QueryCancelled` where somebody cancelled the query. */
export const orCancelled = (error: LeaseLost | RedisStoreError): Lost | RedisStoreError =>
  error._tag === "LeaseLost" ? cancelledOrLost(error) : error

/**
 * Renews the lease every third of it, until the claim is lost. A record with a newer version tells that at once.
 *
 * It also goes by its own clock, counted from when the last successful renewal was sent. So it gives the claim up before
 * the lease can have lapsed in the store, even if every call hangs.
 */
export const heartbeat = Effect.fnUntraced(function*(
  store: RedisStore["Service"],
  record: QueryRecord,
  lease: Duration.Duration,
  renewed: Renewed
): Effect.fn.Return<Lost, never, Scope.Scope> {
  const { key, version: fence } = record
  const givenUp = () => new LeaseLost({ fence, record })
  const usable = usableMillis(lease)
  const intervalMillis = Duration.toMillis(lease) / 3
  let delayMillis = intervalMillis

  // Short work subscribes to nothing: a cancel during it is found when it records its end. The heartbeat does not wait for
  // the subscription, and the renewal after it finds what happened before it.
  const waiter = new Waiter()
  yield* subscribe(store, key, waiter).pipe(
    Effect.andThen(Effect.sync(() => waiter.onGap())),
    Effect.delay(subscribeAfter),
    Effect.forkScoped
  )

  while (true) {
    const usableLeft = renewed.atMillis + usable - (yield* monotonicMillis)
    const wake = yield* waiter.wait(record, Math.min(delayMillis, usableLeft))
    // The record may be that of the end of this very claim by its holder, whose fiber goes first.
    yield* Effect.yieldNow
    if (typeof wake === "object") return cancelledOrLost(new LeaseLost({ fence, record: wake }))
    const sentAtMillis = yield* monotonicMillis
    const left = renewed.atMillis + usable - sentAtMillis
    if (left <= 0) return givenUp()
    const answer = yield* Effect.timeoutOption(Effect.result(store.renew(key, fence, lease)), left)
    if (Option.isNone(answer)) return givenUp()
    if (Result.isSuccess(answer.value)) {
      renewed.atMillis = sentAtMillis
      delayMillis = intervalMillis
    } else if (answer.value.failure._tag === "LeaseLost") {
      return cancelledOrLost(answer.value.failure)
    } else {
      delayMillis = intervalMillis / 3
    }
  }
})
