/** Validates what callers without types can pass, before anything is sent. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { keyIssue } from "../../domain/internal/ids.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import * as QueryState from "../../domain/QueryState.ts"
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

/** Why options are not those of a wait. */
export const waitIssue = (options: unknown): string | undefined => {
  if (options === undefined) return undefined
  if (!isObject(options)) return "the options must be an object"
  const { schedule, timeout } = options
  if (timeout !== undefined && !isTimeout(timeout)) return "timeout must be a duration, and not negative"
  return schedule === undefined || Schedule.isSchedule(schedule) ? undefined : "schedule must be a Schedule"
}

/** Why work and options are not those of a claim. */
export const workIssue = (work: unknown, options: unknown): string | undefined => {
  if (!isFunction(work)) return "the work must be a function that returns an Effect"
  return options === undefined || isObject(options) ? undefined : "the options must be an object"
}

/** Why options are not those of a run. */
export const runIssue = (options: unknown): string | undefined => {
  if (!isObject(options)) return "the options must be an object with execute and onCompleted"
  const { execute, onCompleted, purge, recover } = options
  if (!isFunction(execute)) return "execute must be a function that returns an Effect"
  if (!Effect.isEffect(onCompleted)) return "onCompleted must be an Effect"
  if (purge !== undefined && !isFunction(purge)) return "purge must be a function that returns an Effect"
  if (recover !== undefined && !isFunction(recover)) return "recover must be a function"
  return waitIssue(options)
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
