/** The hints of a query, taken one after another. Of several pending hints the latest remains. */
import { Effect, Queue, type Scope } from "effect"
import { type QueryKey, RedisStore, type RedisStoreError } from "effect-query-state"

export interface Hints extends RedisStore.Changes {
  /** Takes the next hint; waits for it if there is none. */
  readonly next: Effect.Effect<number>
}

export const subscribe = (
  key: QueryKey.QueryKey
): Effect.Effect<Hints, RedisStoreError.RedisStoreError, RedisStore.RedisStore | Scope.Scope> =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const hints = yield* Queue.sliding<number>(1)
    const changes = yield* store.changes(key, {
      onHint: (version) => Queue.offerUnsafe(hints, version),
      onRead: () => {}
    })
    return { ...changes, next: Queue.take(hints) }
  })

/** A listener that ignores everything. */
export const noListener: RedisStore.Listener = { onHint: () => {}, onRead: () => {} }

/** Subscribes and ignores the hints. */
export const ignored = (key: QueryKey.QueryKey) =>
  RedisStore.RedisStore.use((store) => store.changes(key, { ...noListener }))
