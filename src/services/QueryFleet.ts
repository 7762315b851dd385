/**
 * Many queries at once.
 *
 * @module
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { LeaseLost, StillPending } from "../domain/QueryError.ts"
import type { DbId, QueryKey } from "../domain/QueryKey.ts"
import type * as QueryRecord from "../domain/QueryRecord.ts"
import * as QueryState from "../domain/QueryState.ts"
import type { Path } from "../domain/Transition.ts"
import * as Input from "./internal/input.ts"
import * as Trace from "./internal/trace.ts"
import * as QueryStateMachine from "./QueryStateMachine.ts"
import type * as QueryWait from "./QueryWait.ts"
import { type CommandResult, RedisStore } from "./RedisStore.ts"
import { isAboutRecord, type RedisStoreError } from "./RedisStoreError.ts"

/**
 * How many queries are in each state; `Unreadable` counts the records that this version cannot read.
 *
 * @category models
 * @since 0.1.0
 */
export type Summary = Readonly<Record<QueryState.Tag | "Unreadable", number>>

/**
 * Result of a wait for one of many queries.
 *
 * @category models
 * @since 0.1.0
 */
export interface Outcome {
  readonly key: QueryKey
  readonly result: Result.Result<QueryRecord.Determinate, StillPending | RedisStoreError>
}

/**
 * Operations on many queries, with few round trips.
 *
 * @category models
 * @since 0.1.0
 */
export interface QueryFleet {
  /** Reads many records. There is one result for each key, in the order of the keys. */
  readonly readMany: (
    keys: Iterable<QueryKey>
  ) => Effect.Effect<ReadonlyArray<Result.Result<QueryRecord.QueryRecord, RedisStoreError>>>

  /** Counts the queries in each state, for a progress bar. */
  readonly summary: (keys: Iterable<QueryKey>) => Effect.Effect<Summary, RedisStoreError>

  /**
   * Lists the records of a database in the given states (default: all), without blocking the server.
   *
   * A query that changes meanwhile may be missing or come twice. Records that this version cannot read are left out, with a
   * warning in the log.
   */
  readonly list: (
    db: DbId,
    options?: { readonly states?: ReadonlyArray<QueryState.Tag> | undefined }
  ) => Stream.Stream<QueryRecord.QueryRecord, RedisStoreError>

  /**
   * Lists the databases that have a record, each once and in no order, without blocking the server.
   *
   * It remembers the ids that it has found, and so takes memory for each database.
   */
  readonly databases: Stream.Stream<DbId, RedisStoreError>

  /** Triggers an event, or a path of events, on many queries. There is one result for each key, in their order. */
  readonly triggerMany: (
    event: Path,
    keys: Iterable<QueryKey>,
    options?: Omit<QueryStateMachine.TriggerOptions, "fence">
  ) => Effect.Effect<ReadonlyArray<Result.Result<CommandResult, RedisStoreError | LeaseLost>>>

  /** Waits for many queries, and emits each outcome as soon as it is known. */
  readonly waitAll: (
    keys: Iterable<QueryKey>,
    options?: QueryWait.Options
  ) => Stream.Stream<Outcome>

  /** Waits for many queries, and returns all outcomes, in the order of the keys. */
  readonly waitAllCollect: (
    keys: Iterable<QueryKey>,
    options?: QueryWait.Options
  ) => Effect.Effect<ReadonlyArray<Outcome>>
}

// How many records one call of the store reads.
const chunkSize = 500

/**
 * Creates the operations on many queries.
 *
 * **Example**
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { QueryFleet, type QueryKey } from "effect-query-state"
 *
 * const report = Effect.fn(function*(keys: ReadonlyArray<QueryKey.QueryKey>) {
 *   const fleet = yield* QueryFleet.make
 *   yield* fleet.waitAll(keys).pipe(Stream.runForEach((outcome) => Effect.log(outcome)))
 *   return yield* fleet.summary(keys)
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<QueryFleet, never, RedisStore> = Effect.gen(function*() {
  const store = Trace.traced(yield* RedisStore)

  // A failure that is about more than one record fails the whole chunk.
  const readChunk = Effect.fnUntraced(function*(keys: ReadonlyArray<QueryKey>) {
    const results = yield* store.readMany(keys)
    const fatal = Arr.getFailures(results).find((error) => !isAboutRecord(error))
    return fatal === undefined ? results : yield* fatal
  })
  const readAll = (keys: Stream.Stream<QueryKey, RedisStoreError>) =>
    keys.pipe(Stream.grouped(chunkSize), Stream.mapEffect(readChunk), Stream.flattenIterable)

  const wait = (key: QueryKey, options: QueryWait.Options | undefined) =>
    QueryStateMachine.make(key).pipe(
      Effect.provideService(RedisStore, store),
      Effect.flatMap((query) => Effect.result(query.waitUntilComplete(options))),
      Effect.map((result): Outcome => ({ key, result }))
    )

  const waitAll: QueryFleet["waitAll"] = (keys, options) =>
    Stream.mapEffect(Stream.fromIterable(Input.toKeys(keys)), (key) => wait(key, options), {
      concurrency: "unbounded",
      unordered: true
    })

  return {
    readMany: (keys) => store.readMany(Input.toKeys(keys)),

    summary: (keys) =>
      Stream.runFold(readAll(Stream.fromIterable(Input.toKeys(keys))), noneOfAny, (summary, result) => {
        const state = Result.isSuccess(result) ? result.success.state._tag : "Unreadable"
        return { ...summary, [state]: summary[state] + 1 }
      }),

    list: (db, options) => {
      const issue = Input.listIssue(options)
      if (issue !== undefined) return Stream.fail(Input.invalid("list queries", issue))
      const states = options?.states ?? QueryState.tags
      return readAll(store.keys(db)).pipe(
        Stream.tap((result) =>
          Result.isFailure(result) ? Effect.logWarning("Left out of the list", result.failure) : Effect.void
        ),
        Stream.filterMap(identity),
        Stream.filter(({ state }) => states.includes(state._tag))
      )
    },

    databases: store.databases,

    triggerMany: (event, keys, options) =>
      store.compareAndSetMany(Input.toKeys(keys).map((key) => [key, { event, ...options }])),

    waitAll,

    waitAllCollect: (keys, options) =>
      Effect.forEach(Input.toKeys(keys), (key) => wait(key, options), { concurrency: "unbounded" })
  }
})

const noneOfAny = (): Summary =>
  Object.fromEntries([...QueryState.tags, "Unreadable"].map((state) => [state, 0])) as Summary
