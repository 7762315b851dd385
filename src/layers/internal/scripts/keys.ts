/** Every name that this library uses in Redis. */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { type DbId, QueryKey } from "../../../domain/QueryKey.ts"

export const defaultPrefix = "query-state"

/** What a query is called in Redis. */
export interface QueryKeys {
  /** All keys that the scripts are given. */
  readonly names: readonly [first: string, ...rest: ReadonlyArray<string>]
  /** The key that holds the state, by its full name. */
  readonly state: string
  /** The key of the history. */
  readonly history: string
  /** The key of what runs left behind, where the layout has one. */
  readonly results?: string | undefined
  /** The channel on which changes are published: the full name of the record's key. */
  readonly channel: string
}

/**
 * The key of a query's record: `<prefix>:{<db>:<query>}`.
 *
 * Percent-encoding leaves neither ":" nor "{" nor "}" in an id, so that no two queries share a key; the braces put all
 * that belongs to one query into one cluster slot.
 */
export const record = (prefix: string, key: QueryKey): string =>
  `${prefix}:{${encodeURIComponent(key.db)}:${encodeURIComponent(key.query)}}`

/** The key of a query's history, beside that of its record and in the same slot. */
export const history = (recordKey: string): string => `${recordKey}:history`

/** The key of what the runs of a query left behind, likewise. */
export const results = (recordKey: string): string => `${recordKey}:result`

/** The pattern that finds the records of a database with `SCAN`. */
export const pattern = (prefix: string, db: DbId): string => `${glob(prefix)}:{${glob(encodeURIComponent(db))}:*}`

/** The pattern that finds the records of all databases. */
export const patternOfAll = (prefix: string): string => `${glob(prefix)}:{*:*}`

// Percent-encoding leaves "*" as it is, and a prefix may hold anything.
export const glob = (text: string): string => text.replaceAll(/[*?[\]\\^]/g, String.raw`\$&`)

const decodeKey = Schema.decodeUnknownResult(QueryKey)

/** The query whose record has a key, if that key is one of ours. */
export const parse = (prefix: string, redisKey: string): Result.Result<QueryKey, unknown> => {
  const [db, query, ...rest] = redisKey.slice(`${prefix}:{`.length, -1).split(":").map(decodeURIComponentOption)
  return rest.length === 0 && redisKey.startsWith(`${prefix}:{`) && redisKey.endsWith("}")
    ? decodeKey({ db, query })
    : Result.fail(redisKey)
}

const decodeURIComponentOption = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
