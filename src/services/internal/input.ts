/** Validates what callers without types can pass, before anything is sent. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { keyIssue } from "../../domain/internal/ids.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import * as QueryState from "../../domain/QueryState.ts"
import type { RedisStore } from "../RedisStore.ts"
import { InvalidInput, RedisStoreError } from "../RedisStoreError.ts"

/** The error for an invalid argument. Its schema refuses an invalid key, so such a key is left out. */
export const invalid = (operation: string, issue: string, key?: QueryKey): RedisStoreError =>
  new RedisStoreError({
    operation,
    ...(key === undefined || keyIssue(key) !== undefined ? undefined : { key }),
    reason: new InvalidInput({ issue })
  })

/** Continues if there is no issue, and fails with `InvalidInput` otherwise. */
export const orInvalid = <A, E, R>(
  operation: string,
  key: QueryKey,
  issue: string | undefined,
  effect: () => Effect.Effect<A, E, R>
): Effect.Effect<A, E | RedisStoreError, R> =>
  issue === undefined ? Effect.suspend(effect) : Effect.fail(invalid(operation, issue, key))

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null

const isFunction = (value: unknown): boolean => typeof value === "function"

const isTimeout = (value: unknown): boolean =>
  !Number.isNaN(value) && Option.exists(
    Duration.fromInput(value as Duration.Input),
    (duration) => !Duration.isNegative(duration)
  )

const isLongerThanZero = (value: unknown): boolean =>
  !Number.isNaN(value) && Option.exists(
    Duration.fromInput(value as Duration.Input),
    (duration) => Duration.isFinite(duration) && Duration.toMillis(duration) > 0
  )

/** Why options are not those of a wait. */
export const waitIssue = (options: unknown): string | undefined => {
  if (options === undefined) return undefined
  if (!isObject(options)) return "the options must be an object"
  const { schedule, timeout } = options
  if (timeout !== undefined && !isTimeout(timeout)) return "timeout must be a duration, and not negative"
  return schedule === undefined || Schedule.isSchedule(schedule) ? undefined : "schedule must be a Schedule"
}

// Refused before the work, since it goes to the store only after it.
const timeToLiveIssue = (
  { timeToLive }: Record<string, unknown>,
  { hasTimeToLive }: Pick<RedisStore["Service"], "hasTimeToLive">
): string | undefined => {
  if (timeToLive === undefined) return undefined
  if (!hasTimeToLive) return "records of this store cannot expire: leave out timeToLive"
  return isLongerThanZero(timeToLive) ? undefined : "timeToLive must be a duration, longer than zero and finite"
}

/** Why work and options are not those of a claim. */
export const workIssue = (
  work: unknown,
  options: unknown,
  store: Pick<RedisStore["Service"], "hasTimeToLive">
): string | undefined => {
  if (!isFunction(work)) return "the work must be a function that returns an Effect"
  if (options === undefined) return undefined
  return isObject(options) ? timeToLiveIssue(options, store) : "the options must be an object"
}

/** Why options are not those of a run. */
export const runIssue = (options: unknown, store: Pick<RedisStore["Service"], "hasTimeToLive">): string | undefined => {
  if (!isObject(options)) return "the options must be an object with execute and result"
  const { execute, maxAge, maxAttempts, purge, recover, result } = options
  if (!isFunction(execute)) return "execute must be a function that returns an Effect"
  if (!Effect.isEffect(result)) return "result must be an Effect of an Option"
  if (maxAttempts !== undefined && !(Number.isSafeInteger(maxAttempts) && Number(maxAttempts) >= 1)) {
    return "maxAttempts must be a whole number of at least 1"
  }
  if (maxAge !== undefined && !isTimeout(maxAge)) return "maxAge must be a duration, and not negative"
  if (purge !== undefined && !isFunction(purge)) return "purge must be a function that returns an Effect"
  if (recover !== undefined && !isFunction(recover)) return "recover must be a function"
  return timeToLiveIssue(options, store) ?? waitIssue(options)
}

const isTag = (value: unknown): boolean => QueryState.tags.some((tag) => tag === value)

/** Why options are not those of a list. */
export const listIssue = (options: unknown): string | undefined => {
  if (options === undefined) return undefined
  if (!isObject(options)) return "the options must be an object"
  const { states } = options
  return states === undefined || (Array.isArray(states) && states.every(isTag))
    ? undefined
    : `states must be an array of ${QueryState.tags.join(", ")}`
}

/** The keys as an array. A value that is not iterable becomes one invalid key, which gives one failed result. */
export const toKeys = (keys: Iterable<QueryKey>): ReadonlyArray<QueryKey> =>
  typeof keys === "object" && keys !== null && Symbol.iterator in keys ? Array.from(keys) : [keys]
