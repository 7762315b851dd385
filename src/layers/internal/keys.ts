/** Every name that this library uses in Redis. */
import type { QueryKey } from "../../domain/QueryKey.ts"

export const defaultPrefix = "query-state"

/**
 * The key of a query's record: `<prefix>:{<db>:<query>}`.
 *
 * Percent-encoding leaves neither ":" nor "{" nor "}" in an id, so that no two queries share a key; the braces put all
 * that belongs to one query into one cluster slot.
 */
export const record = (prefix: string, key: QueryKey): string =>
  `${prefix}:{${encodeURIComponent(key.db)}:${encodeURIComponent(key.query)}}`
