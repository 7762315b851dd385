/** Records as Redis holds them, seen without the library: a look that settles no lease. */
import { Effect } from "effect"
import type { QueryKey } from "effect-query-state"
import type { Redis } from "ioredis"
import { redisKeyOf } from "./queries.ts"

export interface Raw {
  readonly state: string | null
  readonly version: string | null
  readonly expiresAtMillis: number
}

export const look = (redis: Redis, key: QueryKey.QueryKey): Effect.Effect<Raw> =>
  Effect.map(
    Effect.promise(() => redis.hmget(redisKeyOf(key), "s", "v", "x")),
    ([state = null, version = null, expiresAt]) => ({ state, version, expiresAtMillis: Number(expiresAt) })
  )

/** What changes whenever a record moves on, and not when its claim is renewed. */
export const position = (redis: Redis, key: QueryKey.QueryKey): Effect.Effect<Omit<Raw, "expiresAtMillis">> =>
  Effect.map(look(redis, key), ({ state, version }) => ({ state, version }))

export const remove = (redis: Redis, key: QueryKey.QueryKey): Effect.Effect<unknown> =>
  Effect.promise(() => redis.del(redisKeyOf(key)))

/** The time of the server, in milliseconds. */
export const serverMillis = (redis: Redis): Effect.Effect<number> =>
  Effect.map(Effect.promise(() => redis.time()), ([seconds, micros]) => Number(seconds) * 1000 + Number(micros) / 1000)

/** Waits until the lease of a record is over by the clock of the server, and leaves the record as it is. */
export const lapse = (redis: Redis, key: QueryKey.QueryKey): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { expiresAtMillis } = yield* look(redis, key)
    const now = yield* serverMillis(redis)
    return expiresAtMillis - now
  }).pipe(
    Effect.tap((left) => Effect.sleep(Math.max(left, 0))),
    Effect.repeat({ until: (left) => left <= 0 })
  )
