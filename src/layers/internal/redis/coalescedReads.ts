/** Lets those who read the same record at the same time share one read. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"

interface UnderWay<A, E> {
  next: Deferred.Deferred<A, E> | undefined
}

/**
 * Makes a read of which at most one is under way for each id. Whoever comes meanwhile gets the answer of the read after
 * it, together with all others who came: an answer is never older than the question. Thousands who are woken at once
 * cost two reads.
 */
export const make = <K, A, E>(
  read: (id: string, key: K) => Effect.Effect<A, E>
): (id: string, key: K) => Effect.Effect<A, E> => {
  const underWay = new Map<string, UnderWay<A, E>>()

  const handOver = (id: string, key: K, ended: UnderWay<A, E>): Effect.Effect<unknown> => {
    const next = ended.next
    if (next === undefined) {
      underWay.delete(id)
      return Effect.void
    }
    ended.next = undefined
    return read(id, key).pipe(
      Effect.onExit((exit) =>
        Effect.andThen(Deferred.done(next, exit), Effect.suspend(() => handOver(id, key, ended)))
      ),
      Effect.forkDetach({ startImmediately: true })
    )
  }

  return (id, key) =>
    Effect.suspend(() => {
      const current = underWay.get(id)
      if (current !== undefined) return Deferred.await(current.next ??= Deferred.makeUnsafe())
      const mine: UnderWay<A, E> = { next: undefined }
      underWay.set(id, mine)
      return Effect.onExit(read(id, key), () => handOver(id, key, mine))
    })
}
