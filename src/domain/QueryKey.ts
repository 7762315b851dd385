/**
 * Key of one query: the database it belongs to, and its id there.
 *
 * @module
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Ids from "./internal/ids.ts"
import { printable, printableIssue } from "./internal/printable.ts"

/**
 * Maximum size of an id: 512 bytes of UTF-8.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxIdBytes: number = Ids.maxIdBytes

const isId = Schema.makeFilter((id: string) => Ids.textIssue(id) ?? true)

const Id = Schema.NonEmptyString.check(isId)

/**
 * Schema for the id of a database: 1 to 512 bytes of well-formed Unicode.
 *
 * @category schemas
 * @since 0.1.0
 */
export const DbId = Id.pipe(Schema.brand("effect-query-state/DbId"))

/**
 * Id of a database. The program chooses it.
 *
 * @category models
 * @since 0.1.0
 */
export type DbId = typeof DbId.Type

/**
 * Schema for the id of a query: 1 to 512 bytes of well-formed Unicode.
 *
 * @category schemas
 * @since 0.1.0
 */
export const QueryId = Id.pipe(Schema.brand("effect-query-state/QueryId"))

/**
 * Id of a query within its database, such as a digest of its SQL.
 *
 * @category models
 * @since 0.1.0
 */
export type QueryId = typeof QueryId.Type

/**
 * Schema for query keys.
 *
 * @category schemas
 * @since 0.1.0
 */
export const QueryKey = Schema.Struct({ db: DbId, query: QueryId })

/**
 * Key of one query.
 *
 * **Details**
 *
 * Ids may hold any characters, including separators and Unicode: two different keys never share a key in Redis.
 *
 * @category models
 * @since 0.1.0
 */
export interface QueryKey extends Schema.Schema.Type<typeof QueryKey> {}

/**
 * Error for ids that cannot name a query: empty, longer than 512 bytes, or not well-formed Unicode.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidQueryKey extends Schema.TaggedError<InvalidQueryKey>("effect-query-state/QueryKey/InvalidQueryKey")(
  "InvalidQueryKey",
  { issue: Schema.String }
) {
  override get message(): string {
    return `Not a query key: ${printableIssue(this.issue)}`
  }
}

const decode = Schema.decodeUnknownResult(QueryKey)

const fromIds = (ids: unknown): Result.Result<QueryKey, InvalidQueryKey> =>
  Result.mapError(decode(ids), (error) => new InvalidQueryKey({ issue: error.message }))

/**
 * Creates a key from plain ids, or fails with `InvalidQueryKey`.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { QueryKey } from "effect-query-state"
 *
 * const key = QueryKey.make({ db: "warehouse", query: "daily-totals" })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  ids: { readonly db: string; readonly query: string }
): Effect.Effect<QueryKey, InvalidQueryKey> => Effect.suspend(() => Effect.fromResult(fromIds(ids)))

/**
 * Creates a key from constant ids, and throws `InvalidQueryKey` if an id is invalid.
 *
 * **When to use**
 *
 * For constants in the program. Use `make` for ids from outside.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeUnsafe = (ids: { readonly db: string; readonly query: string }): QueryKey =>
  Result.getOrThrow(fromIds(ids))

/**
 * Formats a key for log lines and error messages, such as `warehouse/daily-totals`. Characters that are not printable are
 * shown as `\n` or `\u{1b}`.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: QueryKey): string =>
  `${printable(self.db, maxIdBytes)}/${printable(self.query, maxIdBytes)}`
