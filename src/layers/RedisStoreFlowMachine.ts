/**
 * Store in a Redis that is shared with FlowMachine: processes of both kinds share one lifecycle.
 *
 * @module
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Redis } from "ioredis"
import * as QueryEvent from "../domain/QueryEvent.ts"
import type { DbId } from "../domain/QueryKey.ts"
import { type HistoryOptions, RedisStore } from "../services/RedisStore.ts"
import * as RedisStoreError from "../services/RedisStoreError.ts"
import * as Input from "./internal/input.ts"
import * as Client from "./internal/redis/client.ts"
import { toFailure } from "./internal/redis/failures.ts"
import * as Store from "./internal/redis/store.ts"
import * as Topology from "./internal/redis/topology.ts"
import type { Dialect } from "./internal/scripts/dialect.ts"
import * as FlowMachineScripts from "./internal/scripts/flowMachine.ts"
import * as Keys from "./internal/scripts/flowMachineKeys.ts"
import * as History from "./internal/scripts/history.ts"
import { history as historyOf } from "./internal/scripts/keys.ts"
import * as Scripts from "./internal/scripts/scripts.ts"
import type * as RedisStoreLive from "./RedisStoreLive.ts"

export type { Dialect }

/**
 * Options of the store, whatever it is connected through.
 *
 * **Details**
 *
 * - `dialect`: which FlowMachine the Redis is shared with. Default: `released`.
 * - `prefix`: the start of the keys that this library adds to those of FlowMachine. Default: `query-state`.
 *
 * The others are those of `RedisStoreLive`, except `keep`: a record of this store cannot expire.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreOptions extends RedisStoreLive.StoreOptions {
  readonly dialect?: Dialect | undefined
  readonly keep?: undefined
}

/**
 * Options of a store that makes its own connection: those of `RedisStoreLive`, and the dialect.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = RedisStoreLive.Options & StoreOptions

/**
 * Provides a `RedisStore` in the Redis that FlowMachine uses. Pass the same server, and the same database number.
 *
 * **When to use**
 *
 * While processes of both kinds work on the same queries. Once no process of FlowMachine is left, use `RedisStoreLive`.
 *
 * **Details**
 *
 * The states and transition hashes are those of FlowMachine. The first transition of a query makes them, in one step. One
 * more key holds the version, the claim and the reason. When FlowMachine moves the query, this key is out of date: the claim
 * and the reason are gone, and the first process that reads the query gives it a new version. Changes by this layer have
 * notifications. Changes by FlowMachine have none, so waits poll with `QueryWait.pollingSchedule`, and a holder finds them
 * with its next renewal.
 *
 * It fails with `InvalidInput` for an id of a database with a ":", for a client with a `keyPrefix`, and for a cluster, where
 * the keys of FlowMachine for one query are on several servers. FlowMachine's states cannot expire, so it also fails for
 * `keep`, and for a command with a `timeToLive`.
 *
 * **Gotchas**
 *
 * FlowMachine knows neither fences nor leases: it can finish, fail or cancel a query that is claimed here. Then the holder
 * gets `LeaseLost` or `QueryCancelled`. The claims of FlowMachine never lapse.
 *
 * **Example**
 *
 * ```ts
 * import { Redacted } from "effect"
 * import { RedisStoreFlowMachine } from "effect-query-state"
 *
 * const StoreLayer = RedisStoreFlowMachine.layer({ url: Redacted.make("redis://localhost:6379/0") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<RedisStore, RedisStoreError.RedisStoreError> =>
  Layer.effect(
    RedisStore,
    Effect.gen(function*() {
      yield* Store.checkOptions(Input.addressIssue(options) ?? dialectIssue(options), options)
      const timeouts = yield* Store.validateTimeouts(options)
      const client = yield* Effect.mapError(Client.open(options, timeouts), Store.storeError("connect"))
      return yield* make(client, options)
    })
  )

/**
 * Provides a `RedisStore` whose options are read from configuration.
 *
 * **Example**
 *
 * ```ts
 * import { Config } from "effect"
 * import { RedisStoreFlowMachine } from "effect-query-state"
 *
 * const StoreLayer = RedisStoreFlowMachine.layerConfig({ url: Config.Redacted("REDIS_URL") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (options: {
  readonly url: Config.Config<Redacted.Redacted<string>>
  readonly dialect?: Config.Config<Dialect | undefined> | undefined
  readonly prefix?: Config.Config<string | undefined> | undefined
  readonly commandTimeout?: Config.Config<Duration.Input | undefined> | undefined
  readonly connectTimeout?: Config.Config<Duration.Input | undefined> | undefined
  readonly replicas?: Config.Config<RedisStoreLive.ReplicaOptions | undefined> | undefined
  readonly history?: Config.Config<HistoryOptions | undefined> | undefined
}): Layer.Layer<RedisStore, RedisStoreError.RedisStoreError | Config.ConfigError> =>
  Layer.unwrap(Effect.gen(function*() {
    yield* Input.check(Input.configIssue(options))
    return layer(
      yield* Config.all({
        url: options.url,
        dialect: options.dialect ?? Config.succeed(undefined),
        prefix: options.prefix ?? Config.succeed(undefined),
        commandTimeout: options.commandTimeout ?? Config.succeed(undefined),
        connectTimeout: options.connectTimeout ?? Config.succeed(undefined),
        replicas: options.replicas ?? Config.succeed(undefined),
        history: options.history ?? Config.succeed(undefined)
      })
    )
  }))

/**
 * Provides a `RedisStore` that sends its commands through a client that the program already has; see
 * `RedisStoreLive.layerClient`.
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
      Store.checkOptions(Input.clientIssue(client) ?? Input.storeIssue(options) ?? dialectIssue(options), options),
      make(client, options)
    )
  )

/**
 * Options of a sweep.
 *
 * **Details**
 *
 * - `db`: the database whose queries are read.
 * - `schedule`: when to read them again. The sweep ends with the schedule. Default: 5 seconds after the last time, with 20 %
 *   of jitter, without end.
 *
 * @category models
 * @since 0.1.0
 */
export interface SweepOptions {
  readonly db: DbId
  readonly schedule?: Schedule.Schedule<unknown> | undefined
}

const sweepSchedule = Schedule.spaced("5 seconds").pipe(Schedule.jittered)

// How many queries are read in one go.
const sweptAtOnce = 500

// A record that cannot be read is a matter of its readers, not of the sweep.
const sweep = (store: RedisStore["Service"], db: DbId): Effect.Effect<void> =>
  store.keys(db).pipe(
    Stream.grouped(sweptAtOnce),
    Stream.mapEffect(store.readMany),
    Stream.flattenIterable,
    Stream.filterMap(Result.flip),
    Stream.filter((error) => !RedisStoreError.isAboutRecord(error)),
    Stream.runForEach(Effect.fail),
    Effect.catch((error) => Effect.logWarning(`A sweep of ${db} failed`, error))
  )

/**
 * Reads all queries of a database on a schedule, so that the claims of processes that died end although no process of this
 * library looks at their queries. FlowMachine's waits for such queries end, too.
 *
 * **When to use**
 *
 * In one or two long-running processes, while processes of FlowMachine wait for queries that this library runs.
 *
 * **Details**
 *
 * It runs until the scope of the layer ends. A sweep that fails is logged as a warning, and the next one tries again. The
 * layer fails with `InvalidInput` for a database whose id holds a ":".
 *
 * **Gotchas**
 *
 * A sweep scans all keys of the server, and runs one script for each query of the database. Give a large one a slower
 * schedule: a lapsed claim then ends as much later.
 *
 * **Example**
 *
 * ```ts
 * import { Layer, Redacted } from "effect"
 * import { QueryKey, RedisStoreFlowMachine } from "effect-query-state"
 *
 * const StoreLayer = RedisStoreFlowMachine.layer({ url: Redacted.make("redis://localhost:6379/0") })
 * const SweepLayer = RedisStoreFlowMachine.layerSweep({ db: QueryKey.DbId.make("flowdb-1") })
 *
 * const MainLayer = SweepLayer.pipe(Layer.provideMerge(StoreLayer))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSweep = (
  options: SweepOptions
): Layer.Layer<never, RedisStoreError.RedisStoreError, RedisStore> =>
  Layer.effectDiscard(
    Effect.gen(function*() {
      yield* Input.check(Input.sweepIssue(options), "configure the sweep")
      const { db, schedule = sweepSchedule } = options
      yield* Effect.mapError(Effect.fromResult(Keys.pattern(db)), Store.storeError("configure the sweep"))
      const store = yield* RedisStore
      yield* Effect.forkScoped(Effect.repeat(sweep(store, db), schedule))
    })
  )

const refusedCluster = Store.invalid(
  "a Redis Cluster cannot be shared with FlowMachine, whose keys for one query fall into different slots: "
    + "use a standalone Redis or Sentinel, or a cluster without FlowMachine by RedisStoreLive.layerCluster"
)

/** A server by itself can be one of a cluster, too. */
const refuseCluster = (client: Redis, commandTimeout: Duration.Input) =>
  Effect.tryPromise({ try: () => client.info("cluster"), catch: (error) => toFailure(error) }).pipe(
    Effect.timeoutOrElse({
      duration: commandTimeout,
      orElse: () =>
        Effect.fail(
          new RedisStoreError.TimedOut({ after: Duration.toMillis(Duration.fromInputUnsafe(commandTimeout)) })
        )
    }),
    Effect.mapError(Store.storeError("prepare the store")),
    Effect.flatMap((info) => info.includes("cluster_enabled:1") ? refusedCluster : Effect.void)
  )

const layoutOf = (prefix: string, dialect: Dialect, history: History.History | undefined): Store.Layout => ({
  scripts: Scripts.make("PUBLISH", FlowMachineScripts.layout(dialect, history)),
  keysOf: (key) =>
    Result.map(Keys.state(key), (state) => {
      const record = Keys.record(prefix, state)
      const historyKey = historyOf(record)
      const names = [state, record, historyKey, ...Keys.hashes(state)] as const
      return { names, state, history: historyKey, channel: record }
    }),
  types: ["string", "hash", "stream", ...QueryEvent.all.map(() => "hash")],
  patternOf: Keys.pattern,
  pattern: Keys.patternOfAll,
  parse: Keys.parse,
  hasTimeToLive: false,
  hasResults: false,
  announcesAll: false
})

const dialects: ReadonlyArray<Dialect> = ["released", "reset-failed"]

const dialectIssue = ({ dialect = "released" }: StoreOptions): string | undefined =>
  dialects.includes(dialect) ? undefined : `dialect must be ${dialects.join(" or ")}`

const make = Effect.fnUntraced(function*(client: Redis, options: StoreOptions) {
  const prefix = yield* Store.checkPrefix(options.prefix)
  if (prefix.startsWith(Keys.reserved)) return yield* Store.invalid(`prefix must not start with "${Keys.reserved}"`)
  if (options.keep !== undefined) return yield* Store.invalid("records of this store cannot expire: leave out keep")
  if (client.isCluster) return yield* refusedCluster
  if ((client.options.keyPrefix ?? "") !== "") {
    return yield* Store.invalid("a client with a keyPrefix would keep the states where FlowMachine does not look")
  }
  const history = yield* History.checkOption(options.history)
  const layout = layoutOf(prefix, options.dialect ?? "released", history)
  yield* refuseCluster(client, options.commandTimeout ?? Duration.seconds(5))
  const topology = yield* Effect.mapError(Topology.standalone(client), Store.storeError("configure the store"))
  return yield* Store.make(topology, layout, options)
})
