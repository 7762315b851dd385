/**
 * Queries with a typed result: declared once, executed once in the fleet, with one result for all.
 *
 * @module
 * @since 0.1.0
 */
// @effect-diagnostics anyUnknownInErrorContext:off -- what a query fails with is what its schema says
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { cut } from "../domain/internal/cut.ts"
import * as QueryError from "../domain/QueryError.ts"
import * as QueryKey from "../domain/QueryKey.ts"
import * as QueryRecord from "../domain/QueryRecord.ts"
import * as Reason from "../domain/Reason.ts"
import { canonical, label } from "./internal/canonical.ts"
import * as ClaimedWork from "./internal/claimedWork.ts"
import { isHandedOver } from "./internal/heartbeat.ts"
import { withoutCaller } from "./internal/holding.ts"
import { invalid } from "./internal/input.ts"
import * as ResultEntries from "./internal/resultEntries.ts"
import * as Run from "./internal/run.ts"
import { sha256 } from "./internal/sha256.ts"
import * as Trace from "./internal/trace.ts"
import * as Wait from "./internal/wait.ts"
import { Works } from "./internal/works.ts"
import type * as QueryClaim from "./QueryClaim.ts"
import * as QueryRun from "./QueryRun.ts"
import * as QueryStateMachine from "./QueryStateMachine.ts"
import type * as QueryWait from "./QueryWait.ts"
import { RedisStore, type Results } from "./RedisStore.ts"
import type { RedisStoreError } from "./RedisStoreError.ts"

type Store = RedisStore["Service"]

/**
 * Error for a result that is larger than the `maxBytes` of its query. The query is Errored, and is not run again by itself.
 *
 * @category errors
 * @since 0.1.0
 */
export class ResultTooLarge extends Schema.TaggedError<ResultTooLarge>("effect-query-state/Query/ResultTooLarge")(
  "ResultTooLarge",
  { key: QueryKey.QueryKey, bytes: Schema.Int, maxBytes: Schema.Int }
) {
  override get message(): string {
    return `The result of query ${
      QueryKey.format(this.key)
    } takes ${this.bytes} bytes, and may take ${this.maxBytes}. Raise maxBytes, or keep large results elsewhere and leave a reference`
  }
}

/**
 * Why a run has no result, besides the declared error of its query.
 *
 * @category errors
 * @since 0.1.0
 */
export type RunError = QueryRun.Error | ResultTooLarge

/**
 * Service that can run the queries with a name. `toLayer` provides it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Handler<Tag extends string> {
  readonly _: "effect-query-state/services/Query/Handler"
  readonly _tag: Tag
}

/**
 * Schema constraint for payloads: a struct.
 *
 * @category schemas
 * @since 0.1.0
 */
export interface AnyStructSchema extends Schema.Top {
  readonly fields: Schema.Struct.Fields
}

/**
 * How a caller wants the result.
 *
 * **Details**
 *
 * - `maxAge`: a result that is found and older than that is made anew. Default: it never gets too old.
 * - `staleFor`: for how much longer such a result is still good for an answer at once, while it is made anew in the
 *   background. Default: not at all.
 * - `schedule`, `timeout`: how to wait for a run that is under way; see `QueryWait.Options`.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunOptions extends QueryWait.Options {
  readonly maxAge?: Duration.Input | undefined
  readonly staleFor?: Duration.Input | undefined
}

/**
 * How a process runs the queries that it handles.
 *
 * **Details**
 *
 * - `abandonAfter`: work whose last caller in this process has gone is interrupted after that time. Default: never.
 * - `maxAttempts`, `recover`: see `QueryRun.Options`.
 * - `lease`, `holder`: see `QueryClaim.Options`.
 *
 * @category models
 * @since 0.1.0
 */
export interface HandlerOptions extends QueryClaim.Options {
  readonly abandonAfter?: Duration.Input | undefined
  readonly maxAttempts?: number | undefined
  readonly recover?: ((found: QueryRun.Found) => boolean | Effect.Effect<boolean>) | undefined
}

/**
 * Where the results of a query are kept: beside its record, or in a `KeyValueStore` of `effect`.
 *
 * @category models
 * @since 0.1.0
 */
export type Place = "RedisStore" | "KeyValueStore"

/**
 * The service that a program needs to read and write results that are kept in a place, besides the `RedisStore`.
 *
 * @category models
 * @since 0.1.0
 */
export type PlaceServices<Results extends Place> = Results extends "KeyValueStore" ? KeyValueStore.KeyValueStore : never

/**
 * The error with which results that are kept in a place cannot be read or written, besides `RunError`.
 *
 * @category models
 * @since 0.1.0
 */
export type PlaceError<Results extends Place> = Results extends "KeyValueStore" ? KeyValueStore.KeyValueStoreError
  : never

/**
 * A query with a typed result.
 *
 * **Details**
 *
 * The id of a query is its name and its payload, encoded with the keys of objects in order, and hashed where that is long. So
 * equal payloads are one query. The payload is kept with the record as its label.
 *
 * @category models
 * @since 0.1.0
 */
export interface Query<
  Tag extends string,
  Payload extends AnyStructSchema,
  Success extends Schema.Top,
  Error extends Schema.Top,
  Results extends Place = "RedisStore"
> {
  readonly _tag: Tag
  readonly payloadSchema: Payload
  readonly successSchema: Success
  readonly errorSchema: Error

  /** The key of the query with a payload. */
  readonly key: (
    payload: Payload["~type.make.in"]
  ) => Effect.Effect<QueryKey.QueryKey, RedisStoreError, Payload["EncodingServices"]>

  /**
   * Runs the query once in the fleet, or joins the run that is under way, or gets the result that is there.
   *
   * The work belongs to the layer of the handler. A caller that is interrupted interrupts nothing. A tracer sees a span with the name
   * of the query, and with its label as attribute.
   */
  readonly run: (
    payload: Payload["~type.make.in"],
    options?: RunOptions
  ) => Effect.Effect<
    Success["Type"],
    Error["Type"] | RunError | PlaceError<Results>,
    | Handler<Tag>
    | Payload["EncodingServices"]
    | Success["DecodingServices"]
    | Error["DecodingServices"]
  >

  /** Waits until another process has run the query, and gets the result. It starts no run. */
  readonly await: (
    payload: Payload["~type.make.in"],
    options?: QueryWait.Options
  ) => Effect.Effect<
    Success["Type"],
    Error["Type"] | RunError | PlaceError<Results>,
    | RedisStore
    | PlaceServices<Results>
    | Payload["EncodingServices"]
    | Success["DecodingServices"]
    | Error["DecodingServices"]
  >

  /** The result that is there now, if there is one. It waits for nothing. */
  readonly poll: (
    payload: Payload["~type.make.in"]
  ) => Effect.Effect<
    Option.Option<Exit.Exit<Success["Type"], Error["Type"]>>,
    RedisStoreError | PlaceError<Results>,
    | RedisStore
    | PlaceServices<Results>
    | Payload["EncodingServices"]
    | Success["DecodingServices"]
    | Error["DecodingServices"]
  >

  /** The record of the query, then each later one; see `QueryStateMachine.changes`. */
  readonly changes: (
    payload: Payload["~type.make.in"]
  ) => Stream.Stream<QueryRecord.QueryRecord, RedisStoreError, RedisStore | Payload["EncodingServices"]>

  /** Cancels the query for all who wait for it, if it is Queued or Executing. Answers whether it was. */
  readonly cancel: (
    payload: Payload["~type.make.in"],
    options?: { readonly by?: string | undefined; readonly note?: string | undefined }
  ) => Effect.Effect<boolean, RedisStoreError, RedisStore | Payload["EncodingServices"]>

  /** Forgets the result and how the query ended, so that the next `run` runs it. Leaves a run that is under way alone. */
  readonly invalidate: (
    payload: Payload["~type.make.in"]
  ) => Effect.Effect<
    void,
    RedisStoreError | PlaceError<Results>,
    RedisStore | PlaceServices<Results> | Payload["EncodingServices"]
  >

  /**
   * Provides what runs the query in this process.
   *
   * Each run has a scope of its own, which is closed before the outcome is recorded. When the layer closes, runs that are under way
   * are interrupted, and other processes take them over. Their callers in this process are interrupted, too.
   */
  readonly toLayer: <R>(
    execute: (
      payload: Payload["Type"],
      claim: QueryClaim.QueryClaim
    ) => Effect.Effect<Success["Type"], Error["Type"], R>,
    options?: HandlerOptions
  ) => Layer.Layer<
    Handler<Tag>,
    never,
    | RedisStore
    | PlaceServices<Results>
    | Exclude<R, Scope.Scope>
    | Success["DecodingServices"]
    | Success["EncodingServices"]
    | Error["DecodingServices"]
    | Error["EncodingServices"]
  >
}

/** A query of a name, as its handler gets it. */
interface Called {
  readonly key: QueryKey.QueryKey
  readonly label: string
  readonly payload: unknown
}

interface HandlerService {
  readonly run: (called: Called, options: RunOptions) => Effect.Effect<unknown, unknown, never>
}

const handlerOf = <Tag extends string>(tag: Tag) =>
  Context.Service<Handler<Tag>, HandlerService>(`effect-query-state/services/Query/Handler/${tag}`)

/**
 * Largest result without a `maxBytes` option: 64 KiB.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultMaxBytes = 65_536

const maxLabel = 1024

const bytesOf = (text: string): number => new TextEncoder().encode(text).length

/**
 * Declares a query.
 *
 * **Details**
 *
 * - `db`: the database it belongs to.
 * - `payload`: the fields of what it is asked with.
 * - `success`, `error`: what it results in. Default: nothing, and no error.
 * - `idempotencyKey`: what makes two payloads the same query. Default: all of the payload.
 * - `timeToLive`: for how long the result is kept. Default: as the store says.
 * - `results`: where results are kept. With `"KeyValueStore"`, the text of each result is an entry of a `KeyValueStore` (files, SQL, or
 *   one of your own), and only the key of the entry is beside the record. All processes need the same entries. Default: `"RedisStore"`,
 *   beside the record.
 * - `maxBytes`: how large an encoded result may be, in bytes of UTF-8. Default: `defaultMaxBytes`; no limit in a `KeyValueStore`.
 *
 * **Gotchas**
 *
 * An entry of a `KeyValueStore` is removed once a later run has replaced it, or by `invalidate`. A `timeToLive` makes the result
 * expire, but leaves the entry until then. So does a run that dies after it has written. If a run loses its lease while
 * it writes, and another one writes at the same time, an entry can stay for good.
 *
 * **Example**
 *
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Query } from "effect-query-state"
 *
 * const DailyTotals = Query.make("DailyTotals", {
 *   db: "warehouse",
 *   payload: { day: Schema.String },
 *   success: Schema.Struct({ rows: Schema.Int }),
 *   timeToLive: "6 hours"
 * })
 *
 * const DailyTotalsLive = DailyTotals.toLayer(({ day }) => Effect.succeed({ rows: day.length }))
 *
 * const program = DailyTotals.run({ day: "2026-11-24" })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  const Tag extends string,
  Payload extends Schema.Struct.Fields | AnyStructSchema,
  Success extends Schema.Top = Schema.Void,
  Error extends Schema.Top = Schema.Never,
  const Results extends Place = "RedisStore"
>(tag: Tag, options: {
  readonly db: string
  readonly payload: Payload
  readonly success?: Success
  readonly error?: Error
  readonly idempotencyKey?:
    | ((payload: Payload extends Schema.Struct.Fields ? Schema.Struct.Type<Payload> : Payload["Type"]) => string)
    | undefined
  readonly timeToLive?: Duration.Input | undefined
  readonly results?: Results | undefined
  readonly maxBytes?: number | undefined
}): Query<Tag, Payload extends Schema.Struct.Fields ? Schema.Struct<Payload> : Payload, Success, Error, Results> =>
  build(tag, {
    ...options,
    payload: Schema.isSchema(options.payload) ? options.payload : Schema.Struct(options.payload),
    success: options.success ?? Schema.Void,
    error: options.error ?? Schema.Never,
    maxBytes: options.maxBytes ?? (options.results === "KeyValueStore" ? Number.POSITIVE_INFINITY : defaultMaxBytes)
  } as never) as never

interface Declared {
  readonly db: string
  readonly payload: Schema.Codec<unknown, unknown>
  readonly success: Schema.Codec<unknown, unknown>
  readonly error: Schema.Codec<unknown, unknown>
  readonly idempotencyKey?: ((payload: unknown) => string) | undefined
  readonly timeToLive?: Duration.Input | undefined
  readonly results?: Place | undefined
  readonly maxBytes: number
}

/** Reads the text of a result, if it is there, by what is beside the record. */
type ReadText = (left: string) => Effect.Effect<string | undefined, KeyValueStore.KeyValueStoreError>

/** What is left of a failure: its error, or that the result was too large. */
const Failure = <E extends Schema.Top>(error: E) =>
  Schema.Union([
    Schema.TaggedStruct("Failed", { error }),
    Schema.TaggedStruct("ResultTooLarge", { bytes: Schema.Int, maxBytes: Schema.Int })
  ])

const build = (tag: string, declared: Declared) => {
  const successText = Schema.fromJsonString(Schema.toCodecJson(declared.success))
  const failureText = Schema.fromJsonString(Schema.toCodecJson(Failure(declared.error)))
  const payloadJson = Schema.toCodecJson(declared.payload)
  const Handler = handlerOf(tag)

  const call = Effect.fnUntraced(function*(input: unknown): Effect.fn.Return<Called, RedisStoreError> {
    const made = yield* Effect.mapError(
      declared.payload.makeEffect(input),
      (issue) => invalid(`ask for ${tag}`, String(issue))
    )
    const json = yield* Effect.mapError(
      Schema.encodeEffect(payloadJson)(made),
      (error) => invalid(`ask for ${tag}`, error.message)
    )
    const text = declared.idempotencyKey === undefined ? canonical(json) : declared.idempotencyKey(made)
    const id = `${tag} ${text}`
    const query = bytesOf(id) > QueryKey.maxIdBytes ? `${tag} ${yield* sha256(text)}` : id
    const key = yield* Effect.mapError(
      QueryKey.make({ db: declared.db, query }),
      (error) => invalid(`ask for ${tag}`, error.message)
    )
    return { key, payload: made, label: cut(`${tag} ${label(json)}`.toWellFormed(), maxLabel) }
  })

  /** Reads what a run left behind that ended with this record, if it can still be read. */
  const decode = (
    { key, state, version }: QueryRecord.QueryRecord,
    { failure, success }: Results,
    read: ReadText
  ): Effect.Effect<Option.Option<Exit.Exit<unknown, unknown>>, KeyValueStore.KeyValueStoreError> => {
    if (state._tag === "Completed" && success?.version === version) return decodeSuccess(success.text, read)
    if (state._tag !== "Errored" || failure?.version !== version) return Effect.succeedNone
    return Effect.map(
      decodeText(failureText, failure.text, read),
      Option.map((failure) =>
        Exit.fail(
          failure._tag === "Failed" ? failure.error : new ResultTooLarge({
            key,
            bytes: failure.bytes,
            maxBytes: failure.maxBytes
          })
        )
      )
    )
  }

  // What its schema refuses is a defect of the program, and Errored for all.
  const encodeFailure = (failure: typeof failureText.Type) => Effect.orDie(Schema.encodeEffect(failureText)(failure))

  /** The text of what is left of work that ended so; a defect and an interruption leave nothing. */
  const encode = (exit: Exit.Exit<unknown, unknown>): Effect.Effect<string | undefined> => {
    if (Exit.isSuccess(exit)) return Effect.orDie(Schema.encodeEffect(successText)(exit.value))
    const reason = exit.cause.reasons.find(Cause.isFailReason)
    return reason === undefined ? Effect.undefined : encodeFailure({ _tag: "Failed", error: reason.error })
  }

  const decodeText = <A>(schema: Schema.Codec<A, string>, left: string, read: ReadText) =>
    Effect.flatMap(
      read(left),
      (text) => text === undefined ? Effect.succeedNone : Effect.option(Schema.decodeEffect(schema)(text))
    )

  const decodeSuccess = (left: string, read: ReadText) =>
    Effect.map(decodeText(successText, left, read), Option.map(Exit.succeed))

  const readLeft = (store: Store, entries: ResultEntries.ResultEntries | undefined, { record, results }: Run.Seen) =>
    Effect.flatMap(
      results === undefined ? store.results(record.key) : Effect.succeed(results),
      (results) => decode(record, results, entries?.get ?? Effect.succeed)
    )

  /** The entries that hold the results, where they are not beside the record. */
  const entriesIn = (store: Store) =>
    declared.results === "KeyValueStore"
      ? Effect.map(KeyValueStore.KeyValueStore, (entries) => ResultEntries.make(store, entries))
      : Effect.undefined

  const machine = (key: QueryKey.QueryKey) => QueryStateMachine.make(key)

  const toLayer = (
    execute: (payload: unknown, claim: QueryClaim.QueryClaim) => Effect.Effect<unknown, unknown>,
    options: HandlerOptions = {}
  ) =>
    Layer.effect(
      Handler,
      Effect.gen(function*() {
        const store = Trace.traced(yield* RedisStore)
        const entries = yield* entriesIn(store)
        const works = new Works(yield* Effect.scope, options.abandonAfter)
        const services = withoutCaller(yield* Effect.context<never>())

        /** Does the work, and gives what is left of it to `leave`. */
        const work = Effect.fnUntraced(function*(
          { key, payload }: Called,
          claim: QueryClaim.QueryClaim,
          leave: (text: string) => Effect.Effect<void, unknown>
        ): Effect.fn.Return<unknown, unknown> {
          const exit = yield* Effect.exit(Effect.scoped(Effect.suspend(() => execute(payload, claim))))
          const text = yield* encode(exit)
          if (text === undefined) return yield* exit
          const bytes = bytesOf(text)
          const { maxBytes } = declared
          if (bytes <= maxBytes) {
            yield* leave(text)
            return yield* exit
          }
          yield* leave(yield* encodeFailure({ _tag: "ResultTooLarge", bytes, maxBytes }))
          return yield* new ResultTooLarge({ key, bytes, maxBytes })
        }, Effect.provideContext(services))

        const run = (called: Called, runOptions: RunOptions) => {
          const { key } = called
          const id = `${key.db} ${key.query}`
          let text: string | undefined
          let written: ReadonlyArray<string> = []
          const leave = (fence: number, left: string) =>
            entries === undefined ? Effect.sync(() => text = left) : Effect.map(
              entries.write(key, fence, left),
              ({ all, entry }) => {
                text = entry
                written = all
              }
            )
          const removeUnused = Effect.suspend(() => {
            const candidates = written
            written = []
            return entries === undefined ? Effect.void : Effect.ignore(entries.removeUnused(key, candidates))
          })
          const answer = Effect.fnUntraced(function*(
            found: Run.Seen,
            takeOver: Effect.Effect<unknown, unknown>
          ): Effect.fn.Return<Option.Option<unknown>, unknown> {
            const { maxAge, staleFor } = runOptions
            const { record, results } = found
            const success = results?.success
            if (maxAge === undefined || staleFor === undefined || success === undefined) return Option.none()
            const isCompleted = record.state._tag === "Completed"
            if (isCompleted && !(yield* Run.isTooOld(store, record, maxAge))) return Option.none()
            const completed = { ...record, changedAt: DateTime.makeUnsafe(success.version / 1000) }
            const longest = Duration.sum(Duration.fromInputUnsafe(maxAge), Duration.fromInputUnsafe(staleFor))
            if (yield* Run.isTooOld(store, completed, longest)) return Option.none()
            const old = yield* decodeSuccess(success.text, entries?.get ?? Effect.succeed)
            if (Option.isNone(old)) return Option.none()
            // Only the first who sees this version takes it over.
            // It counts as a caller, or nobody would be left who waits for it.
            if (isCompleted) yield* Effect.forkDetach(Effect.ignore(works.calling(id, takeOver)))
            return Option.some(yield* old.value)
          })
          return works.calling(
            id,
            Run.runBy(store, key, {
              claiming: { ...ClaimedWork.withDefaults(options), label: called.label, result: { _tag: "Get" } },
              execute: (claim) => {
                // A caller can execute a second time, once it has lost its claim.
                text = undefined
                return work(called, claim, (left) => leave(claim.fence, left))
              },
              withOutcome: (exit) => ({
                ...(Exit.isSuccess(exit) ? { timeToLive: declared.timeToLive } : undefined),
                ...(text === undefined ? undefined : { result: { _tag: "Leave", text } })
              }),
              place: (claimed) => works.run(id, Effect.ensuring(claimed, removeUnused)),
              left: (seen) => readLeft(store, entries, seen),
              answer,
              recover: options.recover,
              maxAttempts: options.maxAttempts ?? QueryRun.defaultMaxAttempts,
              maxAge: runOptions.maxAge,
              wait: runOptions,
              span: tag
            })
          )
        }
        return { run } as HandlerService
      })
    )

  const isDecided = (record: QueryRecord.QueryRecord): record is QueryRecord.Determinate =>
    record.state._tag === "Completed" || ("reason" in record.state && !isHandedOver(record.state.reason))

  return {
    _tag: tag,
    payloadSchema: declared.payload,
    successSchema: declared.success,
    errorSchema: declared.error,
    key: (payload: unknown) => Effect.map(call(payload), ({ key }) => key),
    run: (payload: unknown, options: RunOptions = {}) =>
      Effect.flatMap(call(payload), (called) => Handler.use((handler) => handler.run(called, options))),
    await: Effect.fnUntraced(function*(payload: unknown, options: QueryWait.Options = {}) {
      const { key } = yield* call(payload)
      const store = Trace.traced(yield* RedisStore)
      const entries = yield* entriesIn(store)
      let latest = yield* store.read(key)
      while (true) {
        const record = yield* Wait.waitFrom(store, latest, options, isDecided)
        const left = yield* readLeft(store, entries, { record })
        if (Option.isSome(left)) return yield* left.value
        const { attempts, state, version } = record
        if ("reason" in state) return yield* Run.failure(key, state, attempts)
        // A result can expire, or be made anew, between the message and the read.
        latest = yield* store.read(key)
        if (latest.version === version) return yield* new QueryError.QueryErrored({ key, reason: Reason.unrecorded })
      }
    }),
    poll: Effect.fnUntraced(function*(payload: unknown) {
      const { key } = yield* call(payload)
      const store = Trace.traced(yield* RedisStore)
      const entries = yield* entriesIn(store)
      const record = yield* store.read(key)
      return yield* isDecided(record) ? readLeft(store, entries, { record }) : Effect.succeedNone
    }),
    changes: (payload: unknown) =>
      Stream.unwrap(
        Effect.map(Effect.flatMap(call(payload), ({ key }) => machine(key)), ({ changes }) => changes)
      ),
    cancel: Effect.fnUntraced(function*(payload: unknown, request?: Parameters<typeof Reason.requested>[0]) {
      const { key } = yield* call(payload)
      const { trigger } = yield* machine(key)
      return (yield* trigger("Cancel", { reason: Reason.requested(request) })).changed
    }),
    invalidate: Effect.fnUntraced(function*(payload: unknown) {
      const { key } = yield* call(payload)
      const entries = yield* entriesIn(yield* RedisStore)
      const { trigger } = yield* machine(key)
      // A run that begins afterwards has an entry of its own.
      const all = entries === undefined ? [] : yield* entries.all(key)
      const { state } = yield* trigger(["Reset", "FinishReset"], { result: { _tag: "Drop" } })
      if (state._tag === "Known") yield* entries?.removeUnused(key, all) ?? Effect.void
    }),
    toLayer
  }
}
