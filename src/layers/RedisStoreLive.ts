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
import { type HistoryOptions, type KeepOptions, RedisStore } from "../services/RedisStore.ts"
import type * as RedisStoreError from "../services/RedisStoreError.ts"
import * as Input from "./internal/input.ts"
import * as Client from "./internal/redis/client.ts"
import type { ReplicaOptions, StoreOptions as CommonOptions } from "./internal/redis/options.ts"
import * as Store from "./internal/redis/store.ts"
import * as Topology from "./internal/redis/topology.ts"
import * as History from "./internal/scripts/history.ts"
import * as Keep from "./internal/scripts/keep.ts"
import * as Keys from "./internal/scripts/keys.ts"
import * as Scripts from "./internal/scripts/scripts.ts"

export type { ReplicaOptions } from "./internal/redis/options.ts"

/**
 * Options of every store of this module.
 *
 * **Details**
 *
 * - `keep`: how long records are kept once the outcome is decided. Give it to every process that moves queries: each command
 *   goes by the options of its own process. Default: for ever.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends CommonOptions {
  readonly keep?: KeepOptions | undefined
}

/**
 * Options of a store that makes its own connection.
 *
 * **Details**
 *
 * - `url`: `redis://` or `rediss://`, with user, password and database number where needed.
 * - `redis`: the options of ioredis, instead of a URL. With `sentinels` and `name`, the sentinels name the primary. They also
 *   announce that it was replaced, over two more connections to each sentinel; `failoverDetector: false` turns that off.
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
 * - `nodes`: some of the servers of the cluster. They name the others.
 * - `cluster`: the options of ioredis for a cluster, such as `redisOptions` with a password. A `keyPrefix` is ignored: use
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
 * Provides a `RedisStore` in the Redis that a URL or the options of ioredis name.
 *
 * **Details**
 *
 * All queries share one connection for commands and one for notifications. The layer fails with a `RedisStoreError` if it
 * cannot connect. If a connection breaks later, the layer reconnects. Closing the scope of the layer closes its connections.
 *
 * **Example**
 *
 * ```ts
 * import { Redacted } from "effect"
 * import { RedisStoreLive } from "effect-query-state"
 *
 * const StoreLayer = RedisStoreLive.layer({ url: Redacted.make("redis://localhost:6379") })
 *
 * // The primary that the sentinels call "reports".
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
      yield* Store.checkOptions(Input.addressIssue(options), options)
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
 * Each query is on one server, and so is every operation on it. Each primary gets one connection for commands and, once
 * this process waits for one of its queries, one for sharded notifications. Otherwise it is like `layer`.
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
      yield* Store.checkOptions(Input.clusterIssue(options), options)
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
  readonly keep?: Config.Config<KeepOptions | undefined> | undefined
}): Layer.Layer<RedisStore, RedisStoreError.RedisStoreError | Config.ConfigError> =>
  Layer.unwrap(Effect.gen(function*() {
    yield* Input.check(Input.configIssue(options))
    return layer(
      yield* Config.all({
        url: options.url,
        prefix: options.prefix ?? Config.succeed(undefined),
        commandTimeout: options.commandTimeout ?? Config.succeed(undefined),
        connectTimeout: options.connectTimeout ?? Config.succeed(undefined),
        replicas: options.replicas ?? Config.succeed(undefined),
        history: options.history ?? Config.succeed(undefined),
        keep: options.keep ?? Config.succeed(undefined)
      })
    )
  }))

/**
 * Provides a `RedisStore` that sends its commands through a client that the program already has.
 *
 * **Details**
 *
 * The program connects and closes the client. Its `keyPrefix` is respected.
 *
 * **Gotchas**
 *
 * Make the client with `autoResendUnfulfilledCommands: false` and `maxRetriesPerRequest: 0`. The layer fails with
 * `InvalidInput` for any other: if ioredis itself sends a command again, the server cannot tell it from a new one.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  client: Redis,
  options: StoreOptions = {}
): Layer.Layer<RedisStore, RedisStoreError.RedisStoreError> =>
  Layer.effect(
    RedisStore,
    Effect.andThen(
      Store.checkOptions(Input.clientIssue(client) ?? Input.storeIssue(options), options),
      make(standalone(client), options)
    )
  )

const standalone = (client: Redis) =>
  Effect.mapError(Topology.standalone(client), Store.storeError("configure the store"))

const layoutOf = (
  topology: Topology.Topology,
  prefix: string,
  history: History.History | undefined,
  keep: Keep.Keep
): Store.Layout => {
  const fullPrefix = `${topology.keyPrefix}${prefix}`
  return {
    scripts: Scripts.make(topology.isCluster ? "SPUBLISH" : "PUBLISH", Scripts.recordLayout(history, keep)),
    keysOf: (key) => {
      const record = Keys.record(prefix, key)
      const historyKey = Keys.history(record)
      const redisKey = `${topology.keyPrefix}${record}`
      return Result.succeed({
        names: history === undefined ? [record] : [record, historyKey],
        state: redisKey,
        history: historyKey,
        results: Keys.results(record),
        channel: redisKey
      })
    },
    patternOf: (db) => Result.succeed(Keys.pattern(fullPrefix, db)),
    pattern: Keys.patternOfAll(fullPrefix),
    parse: (redisKey) => Keys.parse(fullPrefix, redisKey),
    announcesAll: true,
    hasTimeToLive: true,
    hasResults: true
  }
}

const make = Effect.fnUntraced(function*(
  makeTopology: Effect.Effect<Topology.Topology, RedisStoreError.RedisStoreError, Scope.Scope>,
  options: StoreOptions
) {
  const topology = yield* makeTopology
  const prefix = yield* Store.checkPrefix(options.prefix)
  const history = yield* History.checkOption(options.history)
  const keep = yield* Keep.checkOption(options.keep)
  return yield* Store.make(topology, layoutOf(topology, prefix, history, keep), options)
})
