/**
 * Counts the subscriptions to changes that are open.
 */
import { Effect } from "effect"
import { RedisStore } from "effect-query-state"

/** Provides an effect with a store that counts its open subscriptions, and with that count. */
export const withOpenSubscriptions = <A, E, R>(
  f: (open: Effect.Effect<number>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R | RedisStore.RedisStore> =>
  Effect.suspend(() => {
    let open = 0
    const count = (by: number) =>
      Effect.sync(() => {
        open += by
      })
    return Effect.updateService(f(Effect.sync(() => open)), RedisStore.RedisStore, (store) => ({
      ...store,
      changes: (key, listener) =>
        Effect.andThen(Effect.acquireRelease(count(1), () => count(-1)), store.changes(key, listener))
    }))
  })
