/**
 * The store of the examples: in Redis if `REDIS_URL` is set, else in memory.
 *
 * Your program needs one line of this: `RedisStoreLive.layerConfig({ url: Config.Redacted("REDIS_URL") })`.
 */
import { Config, Effect, Layer, Option, type Redacted, Stream } from "effect"
import { QueryFleet, QueryKey, type RedisStore, RedisStoreLive, RedisStoreMemory } from "effect-query-state"

/** The database that all examples name in their keys. */
export const db = QueryKey.DbId.make("warehouse")

/** The start of all keys in Redis, so that two runs at the same time do not share queries. */
export const prefix = `example-${process.pid}`

// These events make a query Known from every state, and a Known record expires.
const forget = Effect.gen(function*() {
  const fleet = yield* QueryFleet.make
  const keys = yield* fleet.list(db).pipe(Stream.map(({ key }) => key), Stream.runCollect)
  yield* Effect.forEach(["Cancel", "Reset", "FinishReset"] as const, (event) => fleet.triggerMany(event, keys))
})

/** A store that resets the queries of the example at the end. */
export const leavingNoTrace = <E, R>(store: Layer.Layer<RedisStore.RedisStore, E, R>) =>
  Layer.effectDiscard(Effect.addFinalizer(() => Effect.ignore(forget))).pipe(Layer.provideMerge(store))

// Without a Redis, all layers made here are one store: a constant layer is built once.
const storeWith = <E>(inRedis: (url: Redacted.Redacted) => Layer.Layer<RedisStore.RedisStore, E>) =>
  Layer.unwrap(
    Effect.map(
      Config.option(Config.Redacted("REDIS_URL")),
      Option.match({ onNone: () => RedisStoreMemory.layer, onSome: inRedis })
    )
  )

const inRedis = (url: Redacted.Redacted) => RedisStoreLive.layer({ url, prefix })

export const StoreLayer = storeWith((url) => leavingNoTrace(inRedis(url)))

/** The store of a second process: its own connections to the same queries as `StoreLayer`. */
export const FurtherStoreLayer = storeWith(inRedis)
