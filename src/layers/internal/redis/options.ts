/** The options of the stores in Redis, and the form in which they are used once they are validated. */
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import type { RedisOptions } from "ioredis"
import type { HistoryOptions } from "../../../services/RedisStore.ts"
import { InvalidInput } from "../../../services/RedisStoreError.ts"
import { toMillis } from "../command.ts"

/**
 * Options of every store in Redis.
 *
 * **Details**
 *
 * - `prefix`: the start of all key names, without braces. Default: `query-state`.
 * - `commandTimeout`: how long an operation may take before it fails with `TimedOut`. Within this time, the command is sent
 *   again if the server loads its data, fails over or cannot be reached. A connection that is silent for this long when an
 *   answer is due is replaced. Default: 5 seconds.
 * - `replicas`: how many replicas must have a transition before it is answered. Default: none.
 * - `history`: how many of the last transitions of each query are kept. Turn it on in every process that moves queries: a
 *   process without it leaves no entries. Default: none.
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
 * Replicas that must have a transition before it is answered.
 *
 * **When to use**
 *
 * Redis replicates after it has answered: a failover loses what the new primary did not have yet. With this option, a
 * transition is answered when `count` replicas have it in memory. If they do not have it within `timeout`, the transition
 * fails with `NotReplicated`, although it *is* recorded on the primary.
 *
 * **Details**
 *
 * - `count`: how many replicas of the primary that has the query; at least 1.
 * - `timeout`: how long to wait for them, at most half of `commandTimeout`. Default: 1 second, or that half if it is shorter.
 *
 * `WAIT` is sent right behind the script, without an extra round trip. Transitions that are under way at the same time share
 * one. Reads, renewals and refused commands have no `WAIT`. If a renewal is lost, the lease lapses earlier. If a lapse that a
 * read settled is lost, the next operation settles it again.
 *
 * The user of Redis needs the permission for `wait`. Without it, the layer cannot be made.
 *
 * **Gotchas**
 *
 * - This makes a loss less likely, and does not exclude it. It is not consensus: others see the transition before it is
 *   replicated, and a replica without it can still be promoted.
 * - While a `WAIT` is under way, Redis runs no other command of its connection. If replicas are silent, reads and renewals
 *   wait for `timeout` behind it. Make leases longer than three times that.
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
