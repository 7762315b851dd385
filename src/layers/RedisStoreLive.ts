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
import type { ClusterOptions as IoredisClusterOptions, Redis, RedisOptions } from "ioredis"
import { type HistoryOptions, RedisStore } from "../services/RedisStore.ts"
import type * as RedisStoreError from "../services/RedisStoreError.ts"
import * as Client from "./internal/redis/client.ts"
import * as Store from "./internal/redis/store.ts"
import * as Topology from "./internal/redis/topology.ts"
import * as History from "./internal/scripts/history.ts"
import * as Keys from "./internal/scripts/keys.ts"
import * as Scripts from "./internal/scripts/scripts.ts"

/**
 * Options of the store, whatever it is connected through.
 *
 * **Details**
 *
 * - `prefix`: what the names of all keys start with, without braces. Default: `query-state`.
 * - `commandTimeout`: how long a command may take before it fails with `TimedOut`, and for how long it is sent again to a
 *   server that loads its data, fails over or is out of reach; after so long in silence a connection is made anew.
 *   Default: 5 seconds.
 * - `replicas`: how many replicas have to acknowledge a transition before it is answered. Default: none.
 * - `history`: how many of the last transitions of each query are kept. Switch it on in every process that moves queries:
 *   one that has it off leaves no entries. Default: none.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions {
  readonly prefix?: string | undefined
  readonly commandTimeout?: Duration.Input | undefined
  readonly replicas?: Replicas | undefined
  readonly history?: HistoryOptions | undefined
}

/**
 * Replicas that have to acknowledge a transition before it is answered.
 *
 * **When to use**
 *
 * Redis replicates after it has answered: a failover loses what the replica that takes over did not have yet. With this a
 * transition is answered when `count` replicas have it in memory. It fails with `NotReplicated` if they do not within
 * `timeout`, and *is* recorded on the primary then.
 *
 * **Details**
 *
 * - `count`: how many replicas, of those of the primary that has the query; at least 1.
 * - `timeout`: how long they are given, at most half of `commandTimeout`. Default: 1 second, or that half if it is shorter.
 *
 * `WAIT` is sent right behind the script, without a round trip more. Transitions that are under way at the same time share
 * one. Only transitions that happened are kept waiting: not reads, nor a lapsed lease that a read settles, nor renewals; if
 * those are lost, the lease lapses a little earlier, and is settled again.
 *
 * The user of Redis needs the permission for `wait`, which is found when the layer is made. So is a client of the program's
 * own that sends commands again by itself: it would wait on another connection than the one that wrote. Give `layerClient`
 * one with `autoResendUnfulfilledCommands: false` and `maxRetriesPerRequest: 0`.
 *
 * **Gotchas**
 *
 * - This makes the window smaller in which a failover loses something, and does not close it: no consensus is reached
 *   about the transition, others see it before it is acknowledged, and a replica without it can still be the one that is
 *   promoted.
 * - While a `WAIT` is under way, Redis carries out no other command of its connection. Reads and renewals stand behind it,
 *   for `timeout` where replicas are silent, so leases should be longer than three times that.
 * - A claim that fails with `NotReplicated` holds the query until its lease lapses.
 * - In a cluster, a query whose slot is being moved, and which is on the other server already, is `Unavailable` meanwhile.
 *
 * @category models
 * @since 0.1.0
 */
export interface Replicas {
  readonly count: number
  readonly timeout?: Duration.Input | undefined
}

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
      const timeouts = yield* Store.checkTimeouts(options)
      const client = yield* Effect.mapError(Client.open(options, timeouts), Store.storeError("connect"))
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
      const timeouts = yield* Store.checkTimeouts(options)
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
  readonly replicas?: Config.Config<Replicas | undefined> | undefined
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
  Layer.effect(RedisStore, make(Topology.standalone(client), options ?? {}))

const layoutOf = (
  topology: Topology.Topology,
  prefix: string,
  history: History.History | undefined
): Store.Layout => {
  const fullPrefix = `${topology.keyPrefix}${prefix}`
  return {
    scripts: Scripts.make(topology.publish, Scripts.recordLayout(history)),
    keysOf: (key) => {
      const record = Keys.record(prefix, key)
      const historyKey = Keys.history(record)
      return Result.succeed({
        names: history === undefined ? [record] : [record, historyKey],
        history: historyKey,
        channel: `${topology.keyPrefix}${record}`
      })
    },
    keyCount: history === undefined ? 1 : 2,
    patternOf: (db) => Result.succeed(Keys.pattern(fullPrefix, db)),
    parse: (redisKey) => Keys.parse(fullPrefix, redisKey),
    announcesAll: true
  }
}

const make = Effect.fnUntraced(function*(topology: Topology.Topology, options: StoreOptions) {
  const prefix = yield* Store.checkPrefix(options.prefix)
  const history = yield* History.checkOption(options.history)
  return yield* Store.make(topology, layoutOf(topology, prefix, history), options)
})
