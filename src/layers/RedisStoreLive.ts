/**
 * Store in Redis, through ioredis.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { ClusterOptions as IoredisClusterOptions, Redis, RedisOptions } from "ioredis"
import { RedisStore } from "../services/RedisStore.ts"
import type * as RedisStoreError from "../services/RedisStoreError.ts"
import * as Client from "./internal/client.ts"
import * as Keys from "./internal/keys.ts"
import * as Scripts from "./internal/scripts.ts"
import * as Store from "./internal/store.ts"
import * as Topology from "./internal/topology.ts"

/**
 * Options of the store, whatever it is connected through.
 *
 * **Details**
 *
 * - `prefix`: what the names of all keys start with, without braces. Default: `query-state`.
 * - `commandTimeout`: how long a command may take before it fails with `TimedOut`, and for how long it is sent again to a
 *   server that loads its data, fails over or is out of reach. Default: 5 seconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions {
  readonly prefix?: string | undefined
  readonly commandTimeout?: Duration.Input | undefined
}

/**
 * Options of a store that makes its own connection.
 *
 * **Details**
 *
 * - `url`: `redis://` or `rediss://`, with user, password and database number where needed.
 * - `redis`: the options of ioredis, instead of a URL.
 * - `connectTimeout`: how long the first connection may take before the layer fails. Default: 10 seconds.
 *
 * @category models
 * @since 0.1.0
 */
export type Options =
  & StoreOptions
  & { readonly connectTimeout?: Duration.Input | undefined }
  & (
    | { readonly url: Redacted.Redacted<string>; readonly redis?: undefined }
    | { readonly redis: RedisOptions; readonly url?: undefined }
  )

/**
 * Options of a store that makes its own connections to a cluster.
 *
 * **Details**
 *
 * - `nodes`: some of the servers of the cluster, from which the others are found.
 * - `cluster`: the options of ioredis for a cluster, such as `redisOptions` with a password. Prefixes are left out: use
 *   `prefix`.
 * - `connectTimeout`: how long the first connection may take before the layer fails. Default: 10 seconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClusterOptions extends StoreOptions {
  readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }>
  readonly cluster?: IoredisClusterOptions | undefined
  readonly connectTimeout?: Duration.Input | undefined
}

/**
 * Provides a `RedisStore` in the Redis at a URL, or at what the options of ioredis say.
 *
 * **Details**
 *
 * One connection, however many queries. The layer fails with a `RedisStoreError` if it cannot connect; later on the
 * connection is made again whenever it breaks. Closing the scope of the layer closes it.
 *
 * **Example**
 *
 * ```ts
 * import { Redacted } from "effect"
 * import { RedisStoreLive } from "effect-query-state"
 *
 * const StoreLayer = RedisStoreLive.layer({ url: Redacted.make("redis://localhost:6379") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<RedisStore, RedisStoreError.RedisStoreError> =>
  Layer.effect(
    RedisStore,
    Effect.gen(function*() {
      const connectTimeout = yield* Store.checkConnectTimeout(options.connectTimeout)
      const client = yield* Effect.mapError(Client.open(options, connectTimeout), Store.storeError("connect"))
      return yield* make(Topology.standalone(client), options)
    })
  )

/**
 * Provides a `RedisStore` in a cluster of Redis servers.
 *
 * **Details**
 *
 * Each query lives on one server, and so does every operation on it. Notifications are sharded too: one connection a
 * primary for commands and, once somebody waits, one for notifications. Otherwise it is like `layer`.
 *
 * **Example**
 *
 * ```ts
 * import { RedisStoreLive } from "effect-query-state"
 *
 * const StoreLayer = RedisStoreLive.layerCluster({ nodes: [{ host: "redis-1", port: 6379 }] })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerCluster = (options: ClusterOptions): Layer.Layer<RedisStore, RedisStoreError.RedisStoreError> =>
  Layer.effect(
    RedisStore,
    Effect.gen(function*() {
      const connectTimeout = yield* Store.checkConnectTimeout(options.connectTimeout)
      const client = yield* Effect.mapError(Client.openCluster(options, connectTimeout), Store.storeError("connect"))
      return yield* make(Topology.cluster(client), options)
    })
  )

/**
 * Provides a `RedisStore` whose options are read from configuration.
 *
 * **Example**
 *
 * ```ts
 * import { Config } from "effect"
 * import { RedisStoreLive } from "effect-query-state"
 *
 * const StoreLayer = RedisStoreLive.layerConfig({ url: Config.Redacted("REDIS_URL") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (options: {
  readonly url: Config.Config<Redacted.Redacted<string>>
  readonly prefix?: Config.Config<string | undefined> | undefined
  readonly commandTimeout?: Config.Config<Duration.Input | undefined> | undefined
  readonly connectTimeout?: Config.Config<Duration.Input | undefined> | undefined
}): Layer.Layer<RedisStore, RedisStoreError.RedisStoreError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(
    Config.all({
      url: options.url,
      prefix: options.prefix ?? Config.succeed(undefined),
      commandTimeout: options.commandTimeout ?? Config.succeed(undefined),
      connectTimeout: options.connectTimeout ?? Config.succeed(undefined)
    }),
    layer
  ))

/**
 * Provides a `RedisStore` that sends its commands through a client that the program already has.
 *
 * **Details**
 *
 * The client stays the program's own: it is neither connected nor closed here, and its `keyPrefix` is respected. Give it
 * `autoResendUnfulfilledCommands: false` and `maxRetriesPerRequest: 0`: a command that ioredis itself sends again cannot be
 * told from a new one, where another has moved the query on in between.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  client: Redis,
  options?: StoreOptions
): Layer.Layer<RedisStore, RedisStoreError.RedisStoreError> =>
  Layer.effect(RedisStore, make(Topology.standalone(client), options ?? {}))

const layoutOf = (topology: Topology.Topology, prefix: string): Store.Layout => {
  const fullPrefix = `${topology.keyPrefix}${prefix}`
  return {
    scripts: Scripts.make(topology.publish),
    keyOf: (key) => Result.succeed(Keys.record(prefix, key)),
    movedWith: Store.nothingElse,
    lookedAtWith: Store.nothingElse,
    channelOf: (redisKey) => `${topology.keyPrefix}${redisKey}`,
    patternOf: (db) => Result.succeed(Keys.pattern(fullPrefix, db)),
    parse: (redisKey) => Keys.parse(fullPrefix, redisKey),
    announcesAll: true
  }
}

const make = Effect.fnUntraced(function*(topology: Topology.Topology, options: StoreOptions) {
  const prefix = yield* Store.checkPrefix(options.prefix)
  return yield* Store.make(topology, layoutOf(topology, prefix), options)
})
