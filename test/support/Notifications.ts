/** The notifications of a query, to be taken one after the other. Those that are not taken in time become one. */
import { Effect, Queue, type Scope } from "effect"
import { type QueryKey, RedisStore, type RedisStoreError } from "effect-query-state"

export interface Notifications extends RedisStore.Changes {
  /** Takes the version of the next record, or `Infinity` for a gap. */
  readonly next: Effect.Effect<number>
}

export const subscribe = (
  key: QueryKey.QueryKey
): Effect.Effect<Notifications, RedisStoreError.RedisStoreError, RedisStore.RedisStore | Scope.Scope> =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const versions = yield* Queue.sliding<number>(1)
    const changes = yield* store.changes(key, {
      onRecord: ({ version }) => Queue.offerUnsafe(versions, version),
      onGap: () => Queue.offerUnsafe(versions, Number.POSITIVE_INFINITY)
    })
    return { ...changes, next: Queue.take(versions) }
  })

/** Ignores what it gets. */
export const noListener: RedisStore.Listener = { onRecord: () => {}, onGap: () => {} }

/** Subscribes, and ignores what comes. */
export const ignored = (key: QueryKey.QueryKey) =>
  RedisStore.RedisStore.use((store) => store.changes(key, { ...noListener }))
