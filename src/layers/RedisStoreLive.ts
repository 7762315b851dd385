/**
 * Store in Redis, through ioredis.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { ClusterOptions as IoredisClusterOptions, Redis, RedisOptions } from "ioredis"
import { LeaseLost } from "../domain/QueryError.ts"
import type { DbId, QueryKey } from "../domain/QueryKey.ts"
import type { QueryRecord } from "../domain/QueryRecord.ts"
import { type Answer, type Command, type Listener, RedisStore } from "../services/RedisStore.ts"
import * as RedisStoreError from "../services/RedisStoreError.ts"
import * as Acknowledgements from "./internal/acknowledgements.ts"
import * as Client from "./internal/client.ts"
import * as Codec from "./internal/codec.ts"
import { check, checkRenewal } from "./internal/command.ts"
import * as Connection from "./internal/connection.ts"
import * as Keys from "./internal/keys.ts"
import * as OperationIds from "./internal/operationIds.ts"
import * as Scripts from "./internal/scripts.ts"
import { ServerClock } from "./internal/serverClock.ts"
import * as SharedReads from "./internal/sharedReads.ts"
import * as Subscriptions from "./internal/subscriptions.ts"
import * as Topology from "./internal/topology.ts"

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
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions {
  readonly prefix?: string | undefined
  readonly commandTimeout?: Duration.Input | undefined
  readonly replicas?: Replicas | undefined
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
      const timeouts = yield* checkTimeouts(options)
      const client = yield* Effect.mapError(Client.open(options, timeouts), storeError("connect"))
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
      const timeouts = yield* checkTimeouts(options)
      const client = yield* Effect.mapError(Client.openCluster(options, timeouts), storeError("connect"))
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
}): Layer.Layer<RedisStore, RedisStoreError.RedisStoreError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(
    Config.all({
      url: options.url,
      prefix: options.prefix ?? Config.succeed(undefined),
      commandTimeout: options.commandTimeout ?? Config.succeed(undefined),
      connectTimeout: options.connectTimeout ?? Config.succeed(undefined),
      replicas: options.replicas ?? Config.succeed(undefined)
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

// How many commands are under way at once for a call with many: enough that the round trips do not count, few enough
// that neither side buffers more than some hundred kilobytes.
const pipelined = { concurrency: 500 }

const storeError = (operation: string, key?: QueryKey) => (reason: RedisStoreError.Reason) =>
  new RedisStoreError.RedisStoreError({ operation, reason, ...(key === undefined ? undefined : { key }) })

const orLeaseLost = (operation: string, key: QueryKey) => (error: RedisStoreError.Reason | LeaseLost) =>
  error._tag === "LeaseLost" ? error : storeError(operation, key)(error)

const invalid = (issue: string) =>
  Effect.fail(storeError("configure the store")(new RedisStoreError.InvalidInput({ issue })))

// The timers of Node go no further, 24 days, and are over at once beyond.
const longestTimeout = Duration.millis(2 ** 31 - 1)

const checkTimeout = (name: string, input: Duration.Input) => {
  const duration = Duration.fromInputUnsafe(input)
  return Duration.isFinite(duration) && Duration.toMillis(duration) > 0
    ? Effect.succeed(Duration.min(duration, longestTimeout))
    : invalid(`${name} must be longer than zero and finite`)
}

const checkCommandTimeout = ({ commandTimeout }: StoreOptions) =>
  checkTimeout("commandTimeout", commandTimeout ?? Duration.seconds(5))

const checkTimeouts = (options: Options | ClusterOptions) =>
  Effect.all({
    connectTimeout: checkTimeout("connectTimeout", options.connectTimeout ?? Duration.seconds(10)),
    commandTimeout: checkCommandTimeout(options)
  })

const checkReplicas = (
  topology: Topology.Topology,
  replicas: Replicas | undefined,
  commandTimeout: Duration.Duration
): Effect.Effect<Acknowledgements.Replicas | undefined, RedisStoreError.RedisStoreError> => {
  if (replicas === undefined) return Effect.undefined
  // A WAIT that is sent again on another connection would answer for nothing that was written on the first.
  return topology.resends
    ? invalid("replicas need a client with autoResendUnfulfilledCommands: false and maxRetriesPerRequest: 0")
    : Effect.mapError(
      Effect.fromResult(Acknowledgements.check(replicas, commandTimeout)),
      storeError("configure the store")
    )
}

const make = Effect.fnUntraced(function*(topology: Topology.Topology, options: StoreOptions) {
  const prefix = options.prefix ?? Keys.defaultPrefix
  if (/[{}]/.test(prefix)) return yield* invalid("prefix must hold no braces: they choose the slot in a cluster")
  const commandTimeout = yield* checkCommandTimeout(options)

  const replicas = yield* checkReplicas(topology, options.replicas, commandTimeout)

  const connection = Connection.make(topology, commandTimeout, replicas)
  const subscriptions = yield* Subscriptions.make(topology.subscriber, commandTimeout)
  const nextOperation = OperationIds.make()
  const serverClock = new ServerClock()
  const fullPrefix = `${topology.keyPrefix}${prefix}`
  const redisKeyOf = (key: QueryKey) => Keys.record(prefix, key)
  const channelOf = (redisKey: string) => `${topology.keyPrefix}${redisKey}`
  const lua = Scripts.make(topology.publish)
  const scripts = yield* Effect.all({
    claim: connection.load(lua.claim),
    conclude: connection.load(lua.conclude),
    read: connection.load(lua.read),
    renew: connection.load(lua.renew)
  }, { concurrency: "unbounded" }).pipe(
    Effect.tap(connection.tryWait),
    Effect.tap(Effect.map(connection.time, (micros) => serverClock.set(micros))),
    Effect.mapError(storeError("prepare the store"))
  )

  // Reads what a script answers.
  const answerOf = (key: QueryKey, run: Effect.Effect<unknown, RedisStoreError.Reason>) =>
    Effect.flatMap(run, (reply) => {
      const decoded = Codec.decode(key, reply)
      if (Result.isSuccess(decoded)) serverClock.set(decoded.success.nowMicros)
      return Effect.fromResult(decoded)
    })

  const toAnswer = (
    fence: number | undefined,
    { outcome, record }: Codec.Decoded
  ): Effect.Effect<Answer, RedisStoreError.Reason | LeaseLost> => {
    switch (outcome) {
      case Scripts.outcomes.unknown:
        return Effect.fail(new RedisStoreError.ConnectionLost({}))
      case Scripts.outcomes.leaseLost:
        return Effect.fail(new LeaseLost({ fence: fence ?? record.version, record }))
      default:
        return Effect.succeed({ record, changed: outcome === Scripts.outcomes.changed })
    }
  }

  const compareAndSet = (key: QueryKey, command: Command) =>
    Effect.suspend((): Effect.Effect<Answer, RedisStoreError.Reason | LeaseLost> => {
      const checked = check(command)
      if (Result.isFailure(checked)) return Effect.fail(checked.failure)
      const { event, fence } = checked.success
      const args = Codec.encode(nextOperation(), checked.success)
      const script = Codec.takesClaim.has(event) ? scripts.claim : scripts.conclude
      const since = serverClock.reachedMicros()
      return Effect.flatMap(
        answerOf(key, connection.move(script, redisKeyOf(key), [...args, ""], [...args, since])),
        (decoded) => toAnswer(fence, decoded)
      )
    }).pipe(Effect.mapError(orLeaseLost(command.event, key)))

  const sharedRead = SharedReads.make((redisKey, key: QueryKey) =>
    // Whoever waits for the query in this process need not look for itself.
    Effect.tap(answerOf(key, connection.run(scripts.read, redisKey, [])), ({ record }) =>
      Effect.sync(() => subscriptions.read(channelOf(redisKey), record.version)))
  )
  const read = (key: QueryKey) =>
    sharedRead(redisKeyOf(key), key).pipe(
      Effect.map(({ record }) => record),
      Effect.mapError(storeError("read", key))
    )

  const renew = Effect.fnUntraced(
    function*(
      key: QueryKey,
      fence: number,
      lease: Duration.Input
    ): Effect.fn.Return<QueryRecord, RedisStoreError.Reason | LeaseLost> {
      const { leaseMillis } = yield* Effect.fromResult(checkRenewal(fence, lease))
      const { outcome, record } = yield* answerOf(
        key,
        connection.run(scripts.renew, redisKeyOf(key), [fence, leaseMillis])
      )
      return outcome === Scripts.outcomes.leaseLost ? yield* new LeaseLost({ fence, record }) : record
    },
    (effect, key) => Effect.mapError(effect, orLeaseLost("renew the lease on", key))
  )

  const changes = (key: QueryKey, listener: Listener) =>
    subscriptions.subscribe(channelOf(redisKeyOf(key)), listener).pipe(
      Effect.as({ announcesAll: true }),
      Effect.mapError(storeError("subscribe to", key))
    )

  const keys = (db: DbId) =>
    connection.find(Keys.pattern(fullPrefix, db)).pipe(
      Stream.filterMap((redisKey) => Keys.parse(fullPrefix, redisKey)),
      Stream.mapError(storeError(`list the queries of ${db}`))
    )

  return RedisStore.of({
    // Without a fence no script answers that a lease is lost.
    compareAndSet: compareAndSet as RedisStore["Service"]["compareAndSet"],
    compareAndSetMany: Effect.forEach(([key, command]) => Effect.result(compareAndSet(key, command)), pipelined),
    read,
    readMany: Effect.forEach((key) => Effect.result(read(key)), pipelined),
    renew,
    changes,
    keys,
    currentTime: Effect.sync(() => serverClock.now())
  })
})
