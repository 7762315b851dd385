/** The store in Redis, whatever the queries are laid out in there. */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { HistoryEntry } from "../../../domain/HistoryEntry.ts"
import type { Progress } from "../../../domain/Progress.ts"
import { LeaseLost } from "../../../domain/QueryError.ts"
import type { DbId, QueryKey } from "../../../domain/QueryKey.ts"
import type { QueryRecord } from "../../../domain/QueryRecord.ts"
import { type Command, type CommandResult, type Listener, RedisStore } from "../../../services/RedisStore.ts"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"
import { check, checkDb, type Checked, checkKey, checkRenewal } from "../command.ts"
import * as Metrics from "../metrics.ts"
import * as Codec from "../scripts/codec.ts"
import * as History from "../scripts/history.ts"
import * as Keys from "../scripts/keys.ts"
import * as Scripts from "../scripts/scripts.ts"
import * as CoalescedReads from "./coalescedReads.ts"
import * as Connection from "./connection.ts"
import * as OperationIds from "./operationIds.ts"
import * as Replication from "./replication.ts"
import { ServerClock } from "./serverClock.ts"
import * as Subscriptions from "./subscriptions.ts"
import type { Topology } from "./topology.ts"

/** Where in Redis a query is kept, and the scripts that know. */
export interface Layout {
  readonly scripts: Scripts.Scripts
  /** The keys of a query, which every script is given, or why it can have none. In a cluster, the first one has the slot. */
  readonly keysOf: (key: QueryKey) => Result.Result<Keys.QueryKeys, RedisStoreError.Failure>
  /** How many keys that is. */
  readonly keyCount: number
  /** The pattern that finds the first key of each query of a database. */
  readonly patternOf: (db: DbId) => Result.Result<string, RedisStoreError.Failure>
  /** The query with this first key, if there is one. */
  readonly parse: (redisKey: string) => Result.Result<QueryKey, unknown>
  /** Whether all changes of a query are published. */
  readonly announcesAll: boolean
}

// How many commands are under way at once for a call with many: enough that the round trips do not count, few enough
// that neither side buffers more than some hundred kilobytes.
const pipelined = { concurrency: 500 }

export const storeError = (operation: string) => (reason: RedisStoreError.Failure) =>
  new RedisStoreError.RedisStoreError({ operation, reason })

export const invalid = (issue: string) =>
  Effect.fail(storeError("configure the store")(new RedisStoreError.InvalidInput({ issue })))

// The timers of Node go no further, 24 days, and are over at once beyond.
const longestTimeout = Duration.millis(2 ** 31 - 1)

const checkTimeout = (name: string, input: Duration.Input) => {
  const duration = Duration.fromInputUnsafe(input)
  return Duration.isFinite(duration) && Duration.toMillis(duration) > 0
    ? Effect.succeed(Duration.min(duration, longestTimeout))
    : invalid(`${name} must be longer than zero and finite`)
}

interface TimeoutOptions {
  readonly commandTimeout?: Duration.Input | undefined
  readonly connectTimeout?: Duration.Input | undefined
}

const checkCommandTimeout = ({ commandTimeout }: TimeoutOptions) =>
  checkTimeout("commandTimeout", commandTimeout ?? Duration.seconds(5))

/** How long the first connection may take, and how long a command; 10 and 5 seconds where nothing else is said. */
export const checkTimeouts = (options: TimeoutOptions) =>
  Effect.all({
    connectTimeout: checkTimeout("connectTimeout", options.connectTimeout ?? Duration.seconds(10)),
    commandTimeout: checkCommandTimeout(options)
  })

interface Replicas {
  readonly count: number
  readonly timeout?: Duration.Input | undefined
}

const checkReplicas = (
  topology: Topology,
  replicas: Replicas | undefined,
  commandTimeout: Duration.Duration
): Effect.Effect<Replication.Replicas | undefined, RedisStoreError.RedisStoreError> => {
  if (replicas === undefined) return Effect.undefined
  // A WAIT that is sent again on another connection would answer for nothing that was written on the first.
  return topology.resends
    ? invalid("replicas need a client with autoResendUnfulfilledCommands: false and maxRetriesPerRequest: 0")
    : Effect.mapError(
      Effect.fromResult(Replication.check(replicas, commandTimeout)),
      storeError("configure the store")
    )
}

/** What the names of all keys of this library start with. */
export const checkPrefix = (prefix: string = Keys.defaultPrefix) =>
  /[{}]/.test(prefix)
    ? invalid("prefix must hold no braces: they choose the slot in a cluster")
    : Effect.succeed(prefix)

/** A query, and where it is. */
interface Located {
  readonly key: QueryKey
  readonly keys: Keys.QueryKeys
}

/** Makes a store of queries that are laid out in one way, over connections of one kind. */
export const make = Effect.fnUntraced(function*(topology: Topology, layout: Layout, options: {
  readonly commandTimeout?: Duration.Input | undefined
  readonly replicas?: Replicas | undefined
}) {
  const commandTimeout = yield* checkCommandTimeout(options)
  const replicas = yield* checkReplicas(topology, options.replicas, commandTimeout)

  const connection = Connection.make(topology, commandTimeout, replicas)
  const subscriptions = yield* Subscriptions.make(topology.subscriber, commandTimeout)
  const nextOperation = OperationIds.make()
  const serverClock = new ServerClock()
  const { announcesAll, keyCount, parse } = layout
  const keysOf = (key: QueryKey) => Result.flatMap(checkKey(key), layout.keysOf)
  const patternOf = (db: DbId) => Result.flatMap(checkDb(db), layout.patternOf)
  const scripts = yield* Effect.all({
    claim: connection.load(layout.scripts.claim, keyCount),
    conclude: connection.load(layout.scripts.conclude, keyCount),
    read: connection.load(layout.scripts.read, keyCount),
    renew: connection.load(layout.scripts.renew, keyCount)
  }, { concurrency: "unbounded" }).pipe(
    Effect.tap(connection.tryWait),
    Effect.tap(Effect.map(connection.time, (micros) => serverClock.set(micros))),
    Effect.mapError(storeError("prepare the store"))
  )

  // Reads what a script answered.
  const decode = (key: QueryKey, reply: unknown, context: Context.Context<never>) => {
    const decoded = Codec.decode(key, reply)
    if (Result.isFailure(decoded)) return decoded
    const { moved, nowMicros } = decoded.success
    serverClock.set(nowMicros)
    if (moved !== undefined) Codec.countMoved(moved, nowMicros, context)
    return decoded
  }

  const run = (script: Connection.Script, key: QueryKey, { names }: Keys.QueryKeys, args: Connection.Arguments = []) =>
    Effect.withFiber(({ context }) =>
      Effect.flatMap(
        connection.run(script, names, args),
        (reply) => Effect.fromResult(decode(key, reply, context))
      )
    )

  const toAnswer = (
    { event, fence }: Checked,
    { outcome, record }: Codec.Decoded,
    context: Context.Context<never>
  ): Effect.Effect<CommandResult, RedisStoreError.Failure | LeaseLost> => {
    switch (outcome) {
      case Scripts.outcomes.unknown:
        return Effect.fail(new RedisStoreError.ConnectionLost({}))
      case Scripts.outcomes.leaseLost:
        return Effect.fail(new LeaseLost({ fence: fence ?? record.version, record }))
      default: {
        const changed = outcome === Scripts.outcomes.changed
        Metrics.answered(event, changed, context)
        return Effect.succeed({ record, changed })
      }
    }
  }

  const compareAndSet = (key: QueryKey, command: Command) =>
    Effect.withFiber(({ context }): Effect.Effect<CommandResult, RedisStoreError.Failure | LeaseLost> => {
      const checked = check(command)
      if (Result.isFailure(checked)) return Effect.fail(checked.failure)
      const keys = keysOf(key)
      if (Result.isFailure(keys)) return Effect.fail(keys.failure)
      const operation = nextOperation()
      const argsOf = (since: number | "") => Codec.encode(operation, since, checked.success)
      const script = Codec.takesClaim.has(command.event) ? scripts.claim : scripts.conclude
      const since = serverClock.reachedMicros()
      return Effect.flatMap(connection.move(script, keys.success.names, argsOf(""), () => argsOf(since)), (reply) => {
        const decoded = decode(key, reply, context)
        return Result.isFailure(decoded)
          ? Effect.fail(decoded.failure)
          : toAnswer(checked.success, decoded.success, context)
      })
    }).pipe(Effect.catch(Metrics.refused(command.event, key)))

  const coalescedRead = CoalescedReads.make((channel, { key, keys }: Located) =>
    Effect.map(run(scripts.read, key, keys), ({ record }) => {
      // Other waits of this process need no read of their own.
      subscriptions.read(channel, record.version)
      return record
    })
  )
  const read = (key: QueryKey) =>
    Effect.catch(
      Effect.suspend(() => {
        const keys = keysOf(key)
        return Result.isFailure(keys)
          ? Effect.fail(keys.failure)
          : coalescedRead(keys.success.channel, { key, keys: keys.success })
      }),
      Metrics.failed("read", key)
    )

  const renew = Effect.fnUntraced(
    function*(
      key: QueryKey,
      fence: number,
      lease: Duration.Input,
      progress?: Progress
    ): Effect.fn.Return<QueryRecord, RedisStoreError.Failure | LeaseLost> {
      const renewal = yield* Effect.fromResult(checkRenewal(fence, lease, progress))
      const keys = yield* Effect.fromResult(keysOf(key))
      const { outcome, record } = yield* run(scripts.renew, key, keys, Codec.encodeRenewal(renewal))
      return outcome === Scripts.outcomes.leaseLost ? yield* new LeaseLost({ fence, record }) : record
    },
    (effect, key) => Effect.catch(effect, Metrics.orLeaseLost(Metrics.failed("renew the lease on", key)))
  )

  const changes = (key: QueryKey, listener: Listener) =>
    Effect.flatMap(Effect.fromResult(keysOf(key)), ({ channel }) => subscriptions.subscribe(channel, listener))
      .pipe(
        Effect.as({ announcesAll }),
        Effect.catch(Metrics.failed("subscribe to", key))
      )

  const keys = (db: DbId) =>
    Stream.unwrap(Effect.map(Effect.fromResult(patternOf(db)), connection.find)).pipe(
      Stream.filterMap(parse),
      Stream.mapError(storeError(`list the queries of ${String(db)}`))
    )

  const history = Effect.fnUntraced(
    function*(key: QueryKey): Effect.fn.Return<ReadonlyArray<HistoryEntry>, RedisStoreError.Failure> {
      const keys = yield* Effect.fromResult(keysOf(key))
      // Settles a lapsed lease, which belongs in the history, and finds a record that cannot be read.
      yield* run(scripts.read, key, keys)
      const reply = yield* connection.range(keys.history)
      return yield* Effect.fromResult(History.decode(reply))
    },
    (effect, key) => Effect.catch(effect, Metrics.failed("read the history of", key))
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
    history,
    currentTime: Effect.sync(() => serverClock.now())
  })
})
