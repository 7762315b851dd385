/** The options of the stores in Redis, and the form in which they are used once they are validated. */
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import type { RedisOptions } from "ioredis"
import type { HistoryOptions } from "../../../services/RedisStore.ts"
import { InvalidInput } from "../../../services/RedisStoreError.ts"
import { toMillis } from "../command.ts"

/**
 * Options of the store, whatever it is connected through.
 *
 * **Details**
 *
 * - `prefix`: what the names of all keys start with, without braces. Default: `query-state`.
 * - `commandTimeout`: how long an operation may take before it fails with `TimedOut`. Within this time a command is sent
 *   again to a server that loads its data, fails over or is out of reach; after so long in silence a connection is made
 *   anew. Default: 5 seconds.
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
  readonly replicas?: ReplicaOptions | undefined
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
 * The user of Redis needs the permission for `wait`, which is found when the layer is made.
 *
 * **Gotchas**
 *
 * - This makes the window smaller in which a failover loses something, and does not close it: no consensus is reached
 *   about the transition, others see it before it is acknowledged, and a replica without it can still be the one that is
 *   promoted.
 * - While a `WAIT` is under way, Redis carries out no other command of its connection. Reads and renewals stand behind it,
 *   for `timeout` where replicas are silent, so leases should be longer than three times that.
 * - A claim that fails with `NotReplicated` holds the query until its lease lapses.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReplicaOptions {
  readonly count: number
  readonly timeout?: Duration.Input | undefined
}

/** Validated time-outs. */
export interface Timeouts {
  readonly connectTimeout: Duration.Duration
  readonly commandTimeout: Duration.Duration
}

/** Validated `ReplicaOptions`. */
export interface Replicas {
  readonly count: number
  readonly timeoutMillis: number
}

type Validated<A> = Result.Result<A, InvalidInput>

const invalid = (issue: string) => Result.fail(new InvalidInput({ issue }))

// The timers of Node go no further, 24 days, and are over at once beyond.
const longestTimeout = Duration.millis(2 ** 31 - 1)

const validateTimeout = (name: string, input: Duration.Input): Validated<Duration.Duration> => {
  const millis = toMillis(input)
  return Number.isFinite(millis) && millis > 0
    ? Result.succeed(Duration.min(Duration.millis(millis), longestTimeout))
    : invalid(`${name} must be longer than zero and finite`)
}

const validateCommandTimeout = (input: Duration.Input = Duration.seconds(5)): Validated<Duration.Duration> =>
  validateTimeout("commandTimeout", input)

export const validateTimeouts = (
  { commandTimeout, connectTimeout = Duration.seconds(10) }: {
    readonly commandTimeout?: Duration.Input | undefined
    readonly connectTimeout?: Duration.Input | undefined
  }
): Validated<Timeouts> =>
  Result.all({
    connectTimeout: validateTimeout("connectTimeout", connectTimeout),
    commandTimeout: validateCommandTimeout(commandTimeout)
  })

const validateReplicas = (
  options: ReplicaOptions | undefined,
  commandTimeout: Duration.Duration
): Validated<Replicas | undefined> => {
  if (options === undefined) return Result.succeed(undefined)
  const { count, timeout } = options
  // A command can stand behind the WAIT of another, and has its own before it.
  const longest = Duration.toMillis(commandTimeout) / 2
  const timeoutMillis = timeout === undefined
    ? Math.min(1000, longest)
    : toMillis(timeout)
  if (!Number.isSafeInteger(count) || count < 1) return invalid("replicas.count must be a whole number, and at least 1")
  return timeoutMillis > 0 && timeoutMillis <= longest
    ? Result.succeed({ count, timeoutMillis: Math.ceil(timeoutMillis) })
    : invalid("replicas.timeout must be longer than zero, and at most half of commandTimeout")
}

/** Validates what all stores have in common. */
export const validate = (
  { commandTimeout, replicas }: Pick<StoreOptions, "commandTimeout" | "replicas">
): Validated<{ readonly commandTimeout: Duration.Duration; readonly replicas: Replicas | undefined }> =>
  Result.flatMap(
    validateCommandTimeout(commandTimeout),
    (commandTimeout) =>
      Result.map(validateReplicas(replicas, commandTimeout), (replicas) => ({ commandTimeout, replicas }))
  )

/**
 * Refuses a client that sends commands again by itself. Only this library can tell a script that it may have run before,
 * and a WAIT on another connection would not know what was written on the first.
 */
export const validateClient = (
  { autoResendUnfulfilledCommands, maxRetriesPerRequest }: RedisOptions
): Validated<void> =>
  autoResendUnfulfilledCommands === false && maxRetriesPerRequest === 0
    ? Result.succeed(undefined)
    : invalid(
      "the client sends commands again by itself. Make it with autoResendUnfulfilledCommands: false and " +
        "maxRetriesPerRequest: 0"
    )
