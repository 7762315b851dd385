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
import { check, type Checked, checkRenewal } from "../command.ts"
import * as Counting from "../metrics.ts"
import * as Codec from "../scripts/codec.ts"
import * as History from "../scripts/history.ts"
import * as Keys from "../scripts/keys.ts"
import * as Scripts from "../scripts/scripts.ts"
import * as SharedReads from "./coalescedReads.ts"
import * as Connection from "./connection.ts"
import * as OperationIds from "./operationIds.ts"
import * as Options from "./options.ts"
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
  readonly keyOf: (key: QueryKey) => Result.Result<string, RedisStoreError.Failure>
  /** What the scripts `claim` and `conclude` are given besides. */
  readonly movedWith: FurtherKeys
  /** What the scripts `read` and `renew` are given besides. */
  readonly lookedAtWith: FurtherKeys
  /** What the script `history` is given besides: the key of the history last. */
  readonly historyWith: FurtherKeys
  /** The channel on which is told that a query moved on. */
  readonly channelOf: (redisKey: string) => string
  /** The pattern that finds the queries of a database. */
  readonly patternOf: (db: DbId) => Result.Result<string, RedisStoreError.Failure>
  /** The query that is found by a key, if there is one. */
  readonly parse: (redisKey: string) => Result.Result<QueryKey, unknown>
  /** Whether all that moves a query on tells so on its channel. */
  readonly announcesAll: boolean
}

// How many commands are under way at once for a call with many: enough that the round trips do not count, few enough
// that neither side buffers more than some hundred kilobytes.
const pipelined = { concurrency: 500 }

export const storeError = (operation: string) => (reason: RedisStoreError.Failure) =>
  new RedisStoreError.RedisStoreError({ operation, reason })

export const invalid = (issue: string) =>
  Effect.fail(storeError("configure the store")(new RedisStoreError.InvalidInput({ issue })))

const orInvalid = Effect.mapError(storeError("configure the store"))

/** How long the first connection may take, and how long a command; 10 and 5 seconds where nothing else is said. */
export const validateTimeouts = (options: Parameters<typeof Options.validateTimeouts>[0]) =>
  orInvalid(Effect.fromResult(Options.validateTimeouts(options)))

/** What the names of all keys of this library start with. */
export const checkPrefix = (prefix: string = Keys.defaultPrefix) =>
  /[{}]/.test(prefix)
    ? invalid("prefix must hold no braces: they choose the slot in a cluster")
    : Effect.succeed(prefix)

/** Makes a store of queries that are laid out in one way, over connections of one kind. */
export const make = Effect.fnUntraced(function*(topology: Topology, layout: Layout, options: {
  readonly commandTimeout?: Duration.Input | undefined
  readonly replicas?: Options.ReplicaOptions | undefined
}) {
  const { commandTimeout, replicas } = yield* orInvalid(Effect.fromResult(Options.validate(options)))

  const connection = Connection.make(topology, commandTimeout, replicas)
  const subscriptions = yield* Subscriptions.make(topology, commandTimeout)
  const nextOperation = OperationIds.make()
  const { announcesAll, channelOf, historyWith, keyOf, lookedAtWith, movedWith, parse, patternOf } = layout
  const scripts = yield* Effect.all({
    claim: connection.load(layout.scripts.claim, 1 + movedWith.count),
    conclude: connection.load(layout.scripts.conclude, 1 + movedWith.count),
    read: connection.load(layout.scripts.read, 1 + lookedAtWith.count),
    renew: connection.load(layout.scripts.renew, 1 + lookedAtWith.count),
    history: connection.load(layout.scripts.history, 1 + historyWith.count)
  }, { concurrency: "unbounded" }).pipe(
    Effect.tap(connection.prepare),
    Effect.mapError(storeError("prepare the store"))
  )

  // Reads what a script answered.
  const decode = (key: QueryKey, redisKey: string, reply: unknown, context: Context.Context<never>) => {
    const decoded = Codec.decode(key, reply)
    if (Result.isFailure(decoded)) return decoded
    const { moved, nowMicros } = decoded.success
    connection.clockOf(redisKey).set(nowMicros)
    if (moved !== undefined) Codec.countMoved(moved, nowMicros, context)
    return decoded
  }

  const run = (script: Connection.Script, key: QueryKey, redisKey: string, args: Connection.Arguments) =>
    Effect.withFiber(({ context }) =>
      Effect.flatMap(
        connection.run(script, [redisKey], args),
        (reply) => Effect.fromResult(decode(key, redisKey, reply, context))
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
        Counting.answered(event, changed, context)
        return Effect.succeed({ record, changed })
      }
    }
  }

  const compareAndSet = (key: QueryKey, command: Command) =>
    Effect.withFiber(({ context }): Effect.Effect<CommandResult, RedisStoreError.Failure | LeaseLost> => {
      const checked = check(command)
      if (Result.isFailure(checked)) return Effect.fail(checked.failure)
      const found = keyOf(key)
      if (Result.isFailure(found)) return Effect.fail(found.failure)
      const redisKey = found.success
      const operation = nextOperation()
      const argsOf = (first: number | "") => {
        const args = Codec.encode(operation, first, checked.success)
        return movedWith.count === 0 ? args : [...movedWith.of(redisKey), ...args]
      }
      const script = Codec.takesClaim.has(command.event) ? scripts.claim : scripts.conclude
      const since = connection.clockOf(redisKey).reachedMicros()
      return Effect.flatMap(connection.move(script, [redisKey], argsOf(""), () => argsOf(since)), (reply) => {
        const decoded = decode(key, redisKey, reply, context)
        return Result.isFailure(decoded)
          ? Effect.fail(decoded.failure)
          : toAnswer(checked.success, decoded.success, context)
      })
    }).pipe(Effect.catch(Counting.refused(command.event, key)))

  const sharedRead = SharedReads.make((redisKey, key: QueryKey) =>
    Effect.map(run(scripts.read, key, redisKey, lookedAtWith.of(redisKey)), ({ record }) => {
      // Whoever waits for the query in this process need not look for itself.
      subscriptions.read(channelOf(redisKey), record.version)
      return record
    })
  )
  const read = (key: QueryKey) =>
    Effect.catch(
      Effect.suspend(() => {
        const found = keyOf(key)
        return Result.isFailure(found) ? Effect.fail(found.failure) : sharedRead(found.success, key)
      }),
      Counting.failed("read", key)
    )

  const renew = Effect.fnUntraced(
    function*(
      key: QueryKey,
      fence: number,
      lease: Duration.Input,
      progress?: Progress
    ): Effect.fn.Return<QueryRecord, RedisStoreError.Failure | LeaseLost> {
      const renewal = yield* Effect.fromResult(checkRenewal(fence, lease, progress))
      const redisKey = yield* Effect.fromResult(keyOf(key))
      const args = [...lookedAtWith.of(redisKey), ...Codec.encodeRenewal(renewal)]
      const { outcome, record } = yield* run(scripts.renew, key, redisKey, args)
      return outcome === Scripts.outcomes.leaseLost ? yield* new LeaseLost({ fence, record }) : record
    },
    (effect, key) => Effect.catch(effect, Counting.orLeaseLost(Counting.failed("renew the lease on", key)))
  )

  const changes = (key: QueryKey, listener: Listener) =>
    Effect.flatMap(Effect.fromResult(keyOf(key)), (redisKey) => subscriptions.subscribe(channelOf(redisKey), listener))
      .pipe(
        Effect.as({ announcesAll }),
        Effect.catch(Counting.failed("subscribe to", key))
      )

  const keys = (db: DbId) =>
    Stream.unwrap(Effect.map(Effect.fromResult(patternOf(db)), connection.find)).pipe(
      Stream.filterMap(parse),
      Stream.mapError(storeError(`list the queries of ${db}`))
    )

  const history = Effect.fnUntraced(
    function*(key: QueryKey): Effect.fn.Return<ReadonlyArray<HistoryEntry>, RedisStoreError.Failure> {
      const redisKey = yield* Effect.fromResult(keyOf(key))
      const furtherKeys = historyWith.of(redisKey)
      const reply = yield* connection.run(scripts.history, [redisKey], furtherKeys)
      if (reply === null) return yield* new RedisStoreError.WrongType({ redisKey: furtherKeys.at(-1) ?? redisKey })
      // A record that cannot be right is answered instead.
      if (Scripts.isRecord(reply)) yield* Effect.fromResult(Codec.decode(key, reply))
      return yield* Effect.fromResult(History.decode(reply))
    },
    (effect, key) => Effect.catch(effect, Counting.failed("read the history of", key))
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
    currentTime: Effect.sync(() => connection.clock().now())
  })
})
