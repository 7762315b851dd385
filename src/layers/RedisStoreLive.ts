/**
 * Store in Redis, through ioredis.
 *
 * @module
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { ClusterOptions as IoredisClusterOptions, Redis, RedisOptions } from "ioredis"
import { type HistoryOptions, RedisStore } from "../services/RedisStore.ts"
import type * as RedisStoreError from "../services/RedisStoreError.ts"
import * as Client from "./internal/redis/client.ts"
import type { ReplicaOptions, StoreOptions } from "./internal/redis/options.ts"
import * as Store from "./internal/redis/store.ts"
import * as Topology from "./internal/redis/topology.ts"
import * as History from "./internal/scripts/history.ts"
import * as Keys from "./internal/scripts/keys.ts"
import * as Scripts from "./internal/scripts/scripts.ts"

export type { ReplicaOptions, StoreOptions } from "./internal/redis/options.ts"

/**
 * Options of a store that makes its own connection.
 *
 * **Details**
 *
 * - `url`: `redis://` or `rediss://`, with user, password and database number where needed.
 * - `redis`: the options of ioredis, instead of a URL. With `sentinels` and `name` the primary is the one that the sentinels
 *   name; the sentinels also tell when it was replaced (`failoverDetector`, which is on unless it is set to `false`), each
 *   over one connection of the commands' and one of the notifications'.
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
 *
 * // The primary that sentinels call "reports", whichever server that is.
 * const SentinelLayer = RedisStoreLive.layer({
 *   redis: { sentinels: [{ host: "sentinel-1", port: 26379 }, { host: "sentinel-2", port: 26379 }], name: "reports" }
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<RedisStore, RedisStoreError.RedisStoreError> =>
  Layer.effect(
    RedisStore,
    Effect.gen(function*() {
      const timeouts = yield* Store.validateTimeouts(options)
      const client = yield* Effect.mapError(Client.open(options, timeouts), Store.storeError("connect"))
      return yield* make(standalone(client), options)
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
      const timeouts = yield* Store.validateTimeouts(options)
      const client = yield* Effect.mapError(Client.openCluster(options, timeouts), Store.storeError("connect"))
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
  readonly replicas?: Config.Config<ReplicaOptions | undefined> | undefined
  readonly history?: Config.Config<HistoryOptions | undefined> | undefined
}): Layer.Layer<RedisStore, RedisStoreError.RedisStoreError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(
    Config.all({
      url: options.url,
      prefix: options.prefix ?? Config.succeed(undefined),
      commandTimeout: options.commandTimeout ?? Config.succeed(undefined),
      connectTimeout: options.connectTimeout ?? Config.succeed(undefined),
      replicas: options.replicas ?? Config.succeed(undefined),
      history: options.history ?? Config.succeed(undefined)
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
  Layer.effect(RedisStore, make(standalone(client), options ?? {}))

const standalone = (client: Redis) =>
  Effect.mapError(Topology.standalone(client), Store.storeError("configure the store"))

const layoutOf = (
  topology: Topology.Topology,
  prefix: string,
  history: History.History | undefined
): Store.Layout => {
  const fullPrefix = `${topology.keyPrefix}${prefix}`
  return {
    scripts: Scripts.make(topology.isCluster ? "SPUBLISH" : "PUBLISH", Scripts.recordLayout(history)),
    keysOf: (key) => {
      const record = Keys.record(prefix, key)
      const historyKey = Keys.history(record)
      const redisKey = `${topology.keyPrefix}${record}`
      return Result.succeed({
        names: history === undefined ? [record] : [record, historyKey],
        state: redisKey,
        history: historyKey,
        channel: redisKey
      })
    },
    keyCount: history === undefined ? 1 : 2,
    patternOf: (db) => Result.succeed(Keys.pattern(fullPrefix, db)),
    parse: (redisKey) => Keys.parse(fullPrefix, redisKey),
    announcesAll: true
  }
}

const make = Effect.fnUntraced(function*(
  makeTopology: Effect.Effect<Topology.Topology, RedisStoreError.RedisStoreError, Scope.Scope>,
  options: StoreOptions
) {
  const topology = yield* makeTopology
  const prefix = yield* Store.checkPrefix(options.prefix)
  const history = yield* History.checkOption(options.history)
  return yield* Store.make(topology, layoutOf(topology, prefix, history), options)
})
