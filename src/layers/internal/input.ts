/** Says what is wrong with the options of a layer: a caller without types can pass anything. No issue shows an address. */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import { idIssue } from "../../domain/internal/ids.ts"
import { InvalidInput, RedisStoreError } from "../../services/RedisStoreError.ts"

type Issue = string | undefined

type Fields = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const notAnObject = "the options must be an object"

/** Fails with `InvalidInput` if there is an issue. */
export const check = (issue: Issue, operation = "configure the store"): Effect.Effect<void, RedisStoreError> =>
  issue === undefined
    ? Effect.void
    : Effect.fail(new RedisStoreError({ operation, reason: new InvalidInput({ issue }) }))

/** Why a value is not the options of every store. */
export const storeIssue = (options: unknown): Issue => {
  if (!isObject(options)) return notAnObject
  const { history, prefix, replicas } = options
  if (prefix !== undefined && typeof prefix !== "string") return "prefix must be a string"
  if (replicas !== undefined && !isObject(replicas)) return "replicas must be an object with count"
  return history === undefined || isObject(history) ? undefined : "history must be an object with length"
}

const isUrl = (url: unknown): boolean =>
  Redacted.isRedacted(url) &&
  // It throws where the value was wiped.
  Result.getOrElse(Result.try(() => typeof Redacted.value(url) === "string"), () => false)

/** Why a value is not the options of a store that makes its own connection. */
export const addressIssue = (options: unknown): Issue => {
  if (!isObject(options)) return notAnObject
  const { redis, url } = options
  if ((url === undefined) === (redis === undefined)) return "the options must have either url or redis"
  if (url !== undefined && !isUrl(url)) return "url must be a redacted string, as Redacted.make creates it"
  if (redis !== undefined && !isObject(redis)) return "redis must be an object, with the options of ioredis"
  return storeIssue(options)
}

const isNode = (node: unknown): boolean =>
  isObject(node) && typeof node["host"] === "string" && Number.isInteger(node["port"]) &&
  Number(node["port"]) > 0 && Number(node["port"]) < 65_536

/** Why a value is not the options of a store that makes its own connections to a cluster. */
export const clusterIssue = (options: unknown): Issue => {
  if (!isObject(options)) return notAnObject
  const { cluster, nodes } = options
  if (!Array.isArray(nodes) || nodes.length === 0 || !nodes.every(isNode)) {
    return "nodes must be an array of objects with host and port, at least one"
  }
  if (cluster !== undefined && !isObject(cluster)) return "cluster must be an object, with the options of ioredis"
  return storeIssue(options)
}

/** Why a value is not a client of ioredis. */
export const clientIssue = (client: unknown): Issue =>
  isObject(client) && isObject(client["options"]) && typeof client["on"] === "function"
    ? undefined
    : "the client must be a Redis of ioredis"

/** Why a value is not options that are read from configuration. */
export const configIssue = (options: unknown): Issue => {
  if (!isObject(options)) return notAnObject
  if (!Config.isConfig(options["url"])) return "url must be a Config, as Config.Redacted creates it"
  const name = Object.keys(options).find((name) => options[name] !== undefined && !Config.isConfig(options[name]))
  return name === undefined ? undefined : `${name} must be a Config`
}

/** Why a value is not the options of a sweep. */
export const sweepIssue = (options: unknown): Issue => {
  if (!isObject(options)) return notAnObject
  const { db, schedule } = options
  return idIssue("db", db) ??
    (schedule === undefined || Schedule.isSchedule(schedule) ? undefined : "schedule must be a Schedule")
}
