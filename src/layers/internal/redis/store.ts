/** The store in Redis, whatever the queries are laid out in there. */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { HistoryEntry } from "../../../domain/HistoryEntry.ts"
import { LeaseLost } from "../../../domain/QueryError.ts"
import type { DbId, QueryKey } from "../../../domain/QueryKey.ts"
import type { QueryRecord } from "../../../domain/QueryRecord.ts"
import {
  type Command,
  type CommandResult,
  type Listener,
  RedisStore,
  type Report,
  type Results
} from "../../../services/RedisStore.ts"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"
import { validate, validateDb, validateKey, validateRenewal, type ValidCommand } from "../command.ts"
import * as Input from "../input.ts"
import * as Metrics from "../metrics.ts"
import * as Codec from "../scripts/codec.ts"
import * as History from "../scripts/history.ts"
import * as Keys from "../scripts/keys.ts"
import * as Scripts from "../scripts/scripts.ts"
import * as CoalescedReads from "./coalescedReads.ts"
import * as Connection from "./connection.ts"
import * as OperationIds from "./operationIds.ts"
import * as Options from "./options.ts"
import * as Replies from "./replies.ts"
import * as Subscriptions from "./subscriptions.ts"
import { boundedBy } from "./timeout.ts"
import type { Topology } from "./topology.ts"

/** Where in Redis a query is kept, and the scripts that know. */
export interface Layout {
  readonly scripts: Scripts.Scripts
  /** The keys of a query, which every script is given, or why it can have none. In a cluster, the first one has the slot. */
  readonly keysOf: (key: QueryKey) => Result.Result<Keys.QueryKeys, RedisStoreError.Failure>
  /** The type of value of each key, where a script works on several that can be of a wrong one. */
  readonly types?: ReadonlyArray<string>
  /** The pattern that finds the first key of each query of a database. */
  readonly patternOf: (db: DbId) => Result.Result<string, RedisStoreError.Failure>
  /** The pattern that finds the first key of each query of all databases. */
  readonly pattern: string
  /** The query with this first key, if there is one. */
  readonly parse: (redisKey: string) => Result.Result<QueryKey, unknown>
  /** Whether all changes of a query are published. */
  readonly announcesAll: boolean
  /** Whether records can expire. */
  readonly hasTimeToLive: boolean
  /** Whether there is a place for what runs leave behind. */
  readonly hasResults: boolean
}

const noTimeToLive = new RedisStoreError.InvalidInput({
  issue: "records of this store cannot expire: leave out timeToLive"
})

const noResults = new RedisStoreError.InvalidInput({
  issue: "this store keeps no results, so it cannot run a Query: use QueryStateMachine.run"
})

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

/** Checks the options of a store before it connects, where no issue was found with them yet. */
export const checkOptions = Effect.fnUntraced(function*(
  issue: string | undefined,
  options: Options.StoreOptions
): Effect.fn.Return<void, RedisStoreError.RedisStoreError> {
  yield* Input.check(issue)
  yield* orInvalid(Effect.fromResult(Options.validate(options)))
  yield* checkPrefix(options.prefix)
  yield* History.checkOption(options.history)
})

/** The keys that a command is given: those of every script, and the one of the results where it has to do with them. */
const namesFor = ({ result }: ValidCommand, { names, results }: Keys.QueryKeys): Connection.RedisKeys =>
  result === undefined || results === undefined ? names : [...names, results]

/** A query, and where it is. */
interface Located {
  readonly key: QueryKey
  readonly keys: Keys.QueryKeys
}

/** Makes a store of queries that are laid out in one way, over connections of one kind. */
export const make = Effect.fnUntraced(function*(topology: Topology, layout: Layout, options: {
  readonly commandTimeout?: Duration.Input | undefined
  readonly replicas?: Options.ReplicaOptions | undefined
}) {
  const { commandTimeout, replicas } = yield* orInvalid(Effect.fromResult(Options.validate(options)))

  const connection = Connection.make(topology, commandTimeout, replicas)
  const subscriptions = yield* Subscriptions.make(topology, commandTimeout)
  const nextOperation = OperationIds.make()
  const { announcesAll, hasResults, hasTimeToLive, parse, types } = layout
  // A key is used for several commands: without this, transitions a second (256 at a time) fell to 0.8 to 0.9 of those of the
  // release before.
  const known = new WeakMap<QueryKey, Result.Result<Keys.QueryKeys, RedisStoreError.Failure>>()
  const keysOf = (key: QueryKey) => {
    const before = known.get(key)
    if (before !== undefined) return before
    const keys = Result.flatMap(validateKey(key), layout.keysOf)
    if (Result.isSuccess(keys)) known.set(key, keys)
    return keys
  }
  const patternOf = (db: DbId) => Result.flatMap(validateDb(db), layout.patternOf)
  const loadAll = Effect.all({
    claim: connection.load(layout.scripts.claim),
    conclude: connection.load(layout.scripts.conclude),
    read: connection.load(layout.scripts.read),
    renew: connection.load(layout.scripts.renew)
  }, { concurrency: "unbounded" })
  const scripts = yield* Effect.andThen(connection.prepare, loadAll).pipe(
    Effect.mapError(storeError("prepare the store"))
  )

  // Reads what a script answered.
  const decode = (key: QueryKey, keys: Keys.QueryKeys, reply: unknown, context: Context.Context<never>) => {
    const decoded = Codec.decode(key, keys, reply)
    if (Result.isFailure(decoded)) return decoded
    const { before, nowMicros } = decoded.success
    connection.clockOf(keys.names[0]).set(nowMicros)
    if (before !== undefined) Codec.countMoved(before, nowMicros, context)
    return decoded
  }

  // An error does not tell which key of a script holds another type of value, so the server is asked.
  const orWrongKey = <A>(self: Effect.Effect<A, RedisStoreError.Failure>, { names }: Keys.QueryKeys) =>
    types === undefined ? self : Effect.catchTag(self, "WrongType", (failure) =>
      connection.typesOf(names).pipe(
        Effect.orElseSucceed(() => []),
        Effect.flatMap((found) => {
          const index = found.findIndex((type, index) => type !== "none" && type !== types[index])
          const redisKey = names[index] ?? failure.redisKey
          return Effect.fail(new RedisStoreError.WrongType({ redisKey, cause: failure.cause }))
        })
      ))

  const run = (script: Connection.Script, key: QueryKey, keys: Keys.QueryKeys, args: Connection.Arguments = []) =>
    Effect.withFiber(({ context }) =>
      Effect.flatMap(
        orWrongKey(connection.run(script, keys.names, args), keys),
        (reply) => Effect.fromResult(decode(key, keys, reply, context))
      )
    )

  const toAnswer = (
    { events, fence }: ValidCommand,
    { outcome, record, results }: Codec.Decoded,
    context: Context.Context<never>
  ): Effect.Effect<CommandResult, RedisStoreError.Failure | LeaseLost> => {
    switch (outcome) {
      case Scripts.outcomes.unknown:
        return Effect.fail(new RedisStoreError.ConnectionLost({}))
      case Scripts.outcomes.leaseLost:
        return Effect.fail(new LeaseLost({ fence: fence ?? record.version, record }))
      default: {
        const changed = outcome === Scripts.outcomes.changed
        Metrics.answered(events, changed, context)
        return Effect.succeed(results === undefined ? { record, changed } : { record, changed, results })
      }
    }
  }

  const compareAndSet = (key: QueryKey, command: Command) =>
    Effect.withFiber(({ context }): Effect.Effect<CommandResult, RedisStoreError.Failure | LeaseLost> => {
      const valid = validate(command)
      if (Result.isFailure(valid)) return Effect.fail(valid.failure)
      if (valid.success.timeToLiveMillis !== undefined && !hasTimeToLive) return Effect.fail(noTimeToLive)
      if (valid.success.result !== undefined && !hasResults) return Effect.fail(noResults)
      const keys = keysOf(key)
      if (Result.isFailure(keys)) return Effect.fail(keys.failure)
      // The ids of this store have 19 digits, which no safe integer has.
      const operation = command.operation === undefined ? nextOperation() : `${command.operation}`
      const script = Codec.endsPending(valid.success) ? scripts.claim : scripts.conclude
      const move = connection.move(
        script,
        namesFor(valid.success, keys.success),
        (sending) => Codec.encode(operation, valid.success, sending)
      )
      return Effect.flatMap(orWrongKey(move, keys.success), (reply) => {
        const decoded = decode(key, keys.success, reply, context)
        return Result.isFailure(decoded)
          ? Effect.fail(decoded.failure)
          : toAnswer(valid.success, decoded.success, context)
      })
    }).pipe(Effect.catch(Metrics.refused(command.event, key)))

  const coalescedRead = CoalescedReads.make(
    (channel, { key, keys }: Located) =>
      Effect.map(run(scripts.read, key, keys), ({ record }) => {
        // Other waits of this process need no read of their own.
        subscriptions.pass(channel, record)
        return record
      }),
    commandTimeout
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
      report?: Report
    ): Effect.fn.Return<QueryRecord, RedisStoreError.Failure | LeaseLost> {
      const renewal = yield* Effect.fromResult(validateRenewal(fence, lease, report))
      const keys = yield* Effect.fromResult(keysOf(key))
      const { outcome, record } = yield* run(scripts.renew, key, keys, Codec.encodeRenewal(renewal))
      return outcome === Scripts.outcomes.leaseLost ? yield* new LeaseLost({ fence, record }) : record
    },
    (effect, key) => Effect.catch(effect, Metrics.orLeaseLost(Metrics.failed("renew the lease on", key)))
  )

  const changes = (key: QueryKey, listener: Listener) =>
    Effect.flatMap(Effect.fromResult(keysOf(key)), ({ channel }) => subscriptions.subscribe(channel, key, listener))
      .pipe(
        Effect.as({ announcesAll }),
        Effect.catch(Metrics.failed("subscribe to", key))
      )

  const keys = (db: DbId) =>
    Stream.unwrap(Effect.map(Effect.fromResult(patternOf(db)), connection.find)).pipe(
      Stream.filterMap(parse),
      Stream.mapError(storeError(`list the queries of ${String(db)}`))
    )

  const databases = Stream.suspend(() => {
    const found = new Set<DbId>()
    return connection.find(layout.pattern).pipe(
      Stream.filterMap(parse),
      Stream.map(({ db }) => db),
      Stream.filter((db) => found.size < found.add(db).size),
      Stream.mapError(storeError("list the databases"))
    )
  })

  const results = (key: QueryKey) =>
    Effect.gen(function*(): Effect.fn.Return<Results, RedisStoreError.Failure> {
      const keys = yield* Effect.fromResult(keysOf(key))
      if (keys.results === undefined) return yield* noResults
      return Codec.decodeResults(yield* connection.fields(keys.results, Codec.resultFields))
    }).pipe(
      // Whatever else is there is no result.
      Effect.catchTag("WrongType", () => Effect.succeed<Results>({})),
      Effect.catch(Metrics.failed("read the results of", key))
    )

  const history = Effect.fnUntraced(
    function*(key: QueryKey): Effect.fn.Return<ReadonlyArray<HistoryEntry>, RedisStoreError.Failure> {
      const keys = yield* Effect.fromResult(keysOf(key))
      // Settles a lapsed lease, which belongs in the history, and finds a record that cannot be read.
      yield* run(scripts.read, key, keys)
      const reply = yield* connection.range(keys.history)
      return History.decode(yield* Effect.fromResult(Replies.entries(reply)))
    },
    boundedBy(commandTimeout),
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
    databases,
    history,
    currentTime: Effect.sync(() => connection.clock().now()),
    results,
    hasTimeToLive,
    hasResults
  })
})
