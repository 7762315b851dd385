/** The store in Redis, whatever the queries are laid out in there. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { LeaseLost } from "../../domain/QueryError.ts"
import type { DbId, QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import { type Answer, type Command, type Listener, RedisStore } from "../../services/RedisStore.ts"
import * as RedisStoreError from "../../services/RedisStoreError.ts"
import * as Codec from "./codec.ts"
import { check, checkRenewal } from "./command.ts"
import * as Connection from "./connection.ts"
import * as Keys from "./keys.ts"
import * as OperationIds from "./operationIds.ts"
import * as Scripts from "./scripts.ts"
import { ServerClock } from "./serverClock.ts"
import * as SharedReads from "./sharedReads.ts"
import * as Subscriptions from "./subscriptions.ts"
import type { Topology } from "./topology.ts"

/** The keys that a script is given behind the first one. */
export interface FurtherKeys {
  readonly count: number
  readonly of: (redisKey: string) => ReadonlyArray<string>
}

export const nothingElse: FurtherKeys = { count: 0, of: () => [] }

/** Where in Redis a query is kept, and the scripts that know. */
export interface Layout {
  readonly scripts: Scripts.Scripts
  /** The key that a query is found by, or why it can have none. */
  readonly keyOf: (key: QueryKey) => Result.Result<string, RedisStoreError.Reason>
  /** What the scripts `claim` and `conclude` are given besides. */
  readonly movedWith: FurtherKeys
  /** What the scripts `read` and `renew` are given besides. */
  readonly lookedAtWith: FurtherKeys
  /** The channel on which is told that a query moved on. */
  readonly channelOf: (redisKey: string) => string
  /** The pattern that finds the queries of a database. */
  readonly patternOf: (db: DbId) => Result.Result<string, RedisStoreError.Reason>
  /** The query that is found by a key, if there is one. */
  readonly parse: (redisKey: string) => Result.Result<QueryKey, unknown>
  /** Whether all that moves a query on tells so on its channel. */
  readonly announcesAll: boolean
}

// How many commands are under way at once for a call with many: enough that the round trips do not count, few enough
// that neither side buffers more than some hundred kilobytes.
const pipelined = { concurrency: 500 }

export const storeError = (operation: string, key?: QueryKey) => (reason: RedisStoreError.Reason) =>
  new RedisStoreError.RedisStoreError({ operation, reason, ...(key === undefined ? undefined : { key }) })

const orLeaseLost = (operation: string, key: QueryKey) => (error: RedisStoreError.Reason | LeaseLost) =>
  error._tag === "LeaseLost" ? error : storeError(operation, key)(error)

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

/** How long the first connection may take; 10 seconds where nothing else is said. */
export const checkConnectTimeout = (connectTimeout: Duration.Input | undefined) =>
  checkTimeout("connectTimeout", connectTimeout ?? Duration.seconds(10))

/** What the names of all keys of this library start with. */
export const checkPrefix = (prefix: string = Keys.defaultPrefix) =>
  /[{}]/.test(prefix)
    ? invalid("prefix must hold no braces: they choose the slot in a cluster")
    : Effect.succeed(prefix)

/** Makes a store of queries that are laid out in one way, over connections of one kind. */
export const make = Effect.fnUntraced(function*(topology: Topology, layout: Layout, options: {
  readonly commandTimeout?: Duration.Input | undefined
}) {
  const commandTimeout = yield* checkTimeout("commandTimeout", options.commandTimeout ?? Duration.seconds(5))

  const connection = Connection.make(topology, commandTimeout)
  const subscriptions = yield* Subscriptions.make(topology.subscriber, commandTimeout)
  const nextOperation = OperationIds.make()
  const serverClock = new ServerClock()
  const { announcesAll, channelOf, lookedAtWith, movedWith, parse, patternOf } = layout
  const keyOf = (key: QueryKey) => Effect.fromResult(layout.keyOf(key))
  const scripts = yield* Effect.all({
    claim: connection.load(layout.scripts.claim, 1 + movedWith.count),
    conclude: connection.load(layout.scripts.conclude, 1 + movedWith.count),
    read: connection.load(layout.scripts.read, 1 + lookedAtWith.count),
    renew: connection.load(layout.scripts.renew, 1 + lookedAtWith.count)
  }, { concurrency: "unbounded" }).pipe(Effect.mapError(storeError("prepare the store")))

  // Sends a script, and reads its answer.
  const run = (
    script: Connection.Script,
    redisKey: string,
    key: QueryKey,
    args: Connection.Arguments,
    argsAgain?: Connection.Arguments
  ) =>
    Effect.flatMap(connection.run(script, redisKey, args, argsAgain), (reply) => {
      const decoded = Codec.decode(key, reply)
      if (Result.isSuccess(decoded)) serverClock.set(decoded.success.nowMillis)
      return Effect.fromResult(decoded)
    })

  const compareAndSet = Effect.fnUntraced(
    function*(key: QueryKey, command: Command): Effect.fn.Return<Answer, RedisStoreError.Reason | LeaseLost> {
      const checked = yield* Effect.fromResult(check(command))
      const redisKey = yield* keyOf(key)
      const args = [...movedWith.of(redisKey), ...Codec.encode(nextOperation(), checked)]
      const script = Codec.takesClaim.has(command.event) ? scripts.claim : scripts.conclude
      const since = serverClock.lastMillis * 1000
      const { outcome, record } = yield* run(script, redisKey, key, [...args, ""], [...args, since])
      if (outcome === Scripts.outcomes.unknown) return yield* new RedisStoreError.ConnectionLost({})
      return outcome === Scripts.outcomes.leaseLost
        ? yield* new LeaseLost({ fence: checked.fence ?? record.version, record })
        : { record, changed: outcome === Scripts.outcomes.changed }
    },
    (effect, key, { event }) => Effect.mapError(effect, orLeaseLost(event, key))
  )

  const sharedRead = SharedReads.make((redisKey, key: QueryKey) =>
    // Whoever waits for the query in this process need not look for itself.
    Effect.tap(run(scripts.read, redisKey, key, lookedAtWith.of(redisKey)), ({ record }) =>
      Effect.sync(() => subscriptions.read(channelOf(redisKey), record.version)))
  )
  const read = (key: QueryKey) =>
    Effect.flatMap(keyOf(key), (redisKey) => sharedRead(redisKey, key)).pipe(
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
      const redisKey = yield* keyOf(key)
      const args = [...lookedAtWith.of(redisKey), fence, leaseMillis]
      const { outcome, record } = yield* run(scripts.renew, redisKey, key, args)
      return outcome === Scripts.outcomes.leaseLost ? yield* new LeaseLost({ fence, record }) : record
    },
    (effect, key) => Effect.mapError(effect, orLeaseLost("renew the lease on", key))
  )

  const changes = (key: QueryKey, listener: Listener) =>
    Effect.flatMap(keyOf(key), (redisKey) => subscriptions.subscribe(channelOf(redisKey), listener)).pipe(
      Effect.as({ announcesAll }),
      Effect.mapError(storeError("subscribe to", key))
    )

  const keys = (db: DbId) =>
    Stream.unwrap(Effect.map(Effect.fromResult(patternOf(db)), connection.find)).pipe(
      Stream.filterMap(parse),
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
