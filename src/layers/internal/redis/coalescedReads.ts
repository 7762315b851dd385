/** Coalesced reads: callers that read the same record at the same time share one read. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as RedisStoreError from "../../../services/RedisStoreError.ts"
import { boundedBy } from "./timeout.ts"

interface UnderWay<A, E> {
  next: { readonly deferred: Deferred.Deferred<A, E | RedisStoreError.TimedOut>; readonly since: number } | undefined
}

/**
 * Makes a read that is under way at most once for each id. Callers that come during a read share the next one, so an answer is
 * never older than its question. Thousands of callers at once cost two reads. No caller waits for longer than `timeout`: the
 * time of the shared read counts from its first caller.
 */
export const make = <K, A, E>(
  read: (id: string, key: K) => Effect.Effect<A, E>,
  timeout: Duration.Duration
): (id: string, key: K) => Effect.Effect<A, E | RedisStoreError.TimedOut> => {
  const underWay = new Map<string, UnderWay<A, E>>()

  const handOver = (id: string, key: K, ended: UnderWay<A, E>): Effect.Effect<unknown> => {
    const next = ended.next
    if (next === undefined) {
      underWay.delete(id)
      return Effect.void
    }
    ended.next = undefined
    const left = Duration.subtract(timeout, Duration.millis(performance.now() - next.since))
    return read(id, key).pipe(
      boundedBy(left),
      Effect.onExit((exit) =>
        Effect.andThen(Deferred.done(next.deferred, exit), Effect.suspend(() => handOver(id, key, ended)))
      ),
      Effect.forkDetach({ startImmediately: true })
    )
  }

  // The entry and the finalizer that removes it are made in one step: an interruption in between would leave the entry.
  return (id, key) =>
    Effect.uninterruptibleMask((restore) => {
      const current = underWay.get(id)
      if (current !== undefined) {
        current.next ??= { deferred: Deferred.makeUnsafe(), since: performance.now() }
        return restore(Deferred.await(current.next.deferred))
      }
      const mine: UnderWay<A, E> = { next: undefined }
      underWay.set(id, mine)
      return Effect.onExit(restore(read(id, key)), () => handOver(id, key, mine))
    })
}
