/**
 * Where the examples keep their queries: in Redis if `REDIS_URL` is set, else in memory.
 *
 * A program of your own needs one line of this: `RedisStoreLive.layerConfig({ url: Config.Redacted("REDIS_URL") })`.
 */
import { Config, Effect, Layer, Option, type Redacted, Stream } from "effect"
import { QueryFleet, QueryKey, type RedisStore, RedisStoreLive, RedisStoreMemory } from "effect-query-state"

/** The database that all examples name in their keys. */
export const db = QueryKey.DbId.make("warehouse")

/** What all keys in Redis start with: two runs at the same time know nothing of each other. */
export const prefix = `example-${process.pid}`

// Whatever state a query is in, these make it Known, and what is Known expires.
const forget = Effect.gen(function*() {
  const fleet = yield* QueryFleet.make
  const keys = yield* fleet.list(db).pipe(Stream.map(({ key }) => key), Stream.runCollect)
  yield* Effect.forEach(["Cancel", "Reset", "FinishReset"] as const, (event) => fleet.triggerMany(event, keys))
})

/** A store that forgets the queries of the example when that is over. */
export const leavingNoTrace = <E, R>(store: Layer.Layer<RedisStore.RedisStore, E, R>) =>
  Layer.effectDiscard(Effect.addFinalizer(() => Effect.ignore(forget))).pipe(Layer.provideMerge(store))

// Where there is no Redis, all layers of this are one store: a layer that is a constant is built once.
const storeWith = <E>(inRedis: (url: Redacted.Redacted) => Layer.Layer<RedisStore.RedisStore, E>) =>
  Layer.unwrap(
    Effect.map(
      Config.option(Config.Redacted("REDIS_URL")),
      Option.match({ onNone: () => RedisStoreMemory.layer, onSome: inRedis })
    )
  )

const inRedis = (url: Redacted.Redacted) => RedisStoreLive.layer({ url, prefix })

export const StoreLayer = storeWith((url) => leavingNoTrace(inRedis(url)))

/** What another process has while there is a `StoreLayer`: connections of its own to the same queries. */
export const FurtherStoreLayer = storeWith(inRedis)
