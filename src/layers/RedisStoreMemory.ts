/**
 * Store in the memory of this process: no server needed.
 *
 * @module
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { LeaseLost } from "../domain/QueryError.ts"
import type { DbId, QueryKey } from "../domain/QueryKey.ts"
import * as QueryRecord from "../domain/QueryRecord.ts"
import {
  type Command,
  type CommandResult,
  type HistoryOptions,
  type KeepOptions,
  knownTimeToLive,
  RedisStore,
  type Report
} from "../services/RedisStore.ts"
import { type InvalidInput, RedisStoreError } from "../services/RedisStoreError.ts"
import { validate, validateDb, validateKey, validateRenewal } from "./internal/command.ts"
import * as Input from "./internal/input.ts"
import { Listeners } from "./internal/listeners.ts"
import { MemoryHistory } from "./internal/memory/history.ts"
import * as Lifecycle from "./internal/memory/lifecycle.ts"
import { MemoryResults } from "./internal/memory/results.ts"
import * as Metrics from "./internal/metrics.ts"
import * as History from "./internal/scripts/history.ts"
import * as Keep from "./internal/scripts/keep.ts"
import * as Keys from "./internal/scripts/keys.ts"

const knownMillis = Duration.toMillis(knownTimeToLive)

/** When something happens, and in what context. */
interface Now {
  readonly millis: number
  readonly context: Context.Context<never>
}

/** When a record expires, as Redis would let it; `undefined` for one that is kept for ever. */
const expiryMillisOf = ({ changedAt, keptUntil, state }: QueryRecord.QueryRecord): number | undefined => {
  if (keptUntil !== undefined) return DateTime.toEpochMillis(keptUntil)
  return state._tag === "Known" && changedAt !== undefined ? DateTime.toEpochMillis(changedAt) + knownMillis : undefined
}

const isExpired = (record: QueryRecord.QueryRecord, nowMillis: number): boolean => {
  const expiryMillis = expiryMillisOf(record)
  return expiryMillis !== undefined && nowMillis >= expiryMillis
}

// Fewer records than this are not worth looking through.
const leastToSweep = 1000

/** Keeps the records of all queries, and forgets those that have expired. */
class Records {
  private readonly byId = new Map<string, QueryRecord.QueryRecord>()
  // The operation of the last transition, where it was given.
  private readonly operations = new Map<string, number>()
  private sweepAtSize = leastToSweep
  private readonly keep: Keep.Keep
  private readonly onMoved: (id: string, moves: ReadonlyArray<Lifecycle.Move>, now: Now) => void

  constructor(keep: Keep.Keep, onMoved: (id: string, moves: ReadonlyArray<Lifecycle.Move>, now: Now) => void) {
    this.keep = keep
    this.onMoved = onMoved
  }

  get(key: QueryKey, now: Now): QueryRecord.QueryRecord {
    const id = idOf(key)
    const found = this.byId.get(id)
    if (found === undefined) return QueryRecord.absent(key)
    const stored = isExpired(found, now.millis) ? this.forget(found) : found
    const lapse = Lifecycle.lapse(stored, now.millis, this.keep)
    if (lapse === undefined) return stored
    this.move([lapse], now)
    return lapse.after
  }

  keys(db: DbId, nowMillis: number): ReadonlyArray<QueryKey> {
    this.sweep(nowMillis)
    return Array.from(this.byId.values(), ({ key }) => key).filter((key) => key.db === db)
  }

  databases(nowMillis: number): ReadonlyArray<DbId> {
    this.sweep(nowMillis)
    return Array.from(new Set(Array.from(this.byId.values(), ({ key }) => key.db)))
  }

  /** Stores a record that has moved. */
  move(moves: ReadonlyArray<Lifecycle.Move>, now: Now, operation?: number): void {
    const record = moves.at(-1)?.after
    if (record === undefined) return
    const id = idOf(record.key)
    this.byId.set(id, record)
    if (operation === undefined) this.operations.delete(id)
    else this.operations.set(id, operation)
    // Each sweep finds at least half of the records new, so that sweeping takes a constant time for each.
    if (this.byId.size >= this.sweepAtSize) {
      this.sweep(now.millis)
      this.sweepAtSize = Math.max(leastToSweep, 2 * this.byId.size)
    }
    // A listener may send the next command before this returns, so all is stored before.
    this.onMoved(id, moves, now)
  }

  /** Whether the last transition of a query was made by an operation. */
  isBy(key: QueryKey, operation: number | undefined): boolean {
    return operation !== undefined && this.operations.get(idOf(key)) === operation
  }

  /** Stores a record with another lease, or other progress. */
  replace(record: QueryRecord.QueryRecord): void {
    this.byId.set(idOf(record.key), record)
  }

  private sweep(nowMillis: number): void {
    for (const record of this.byId.values()) {
      if (isExpired(record, nowMillis)) this.forget(record)
    }
  }

  private forget({ key }: QueryRecord.QueryRecord): QueryRecord.QueryRecord {
    this.byId.delete(idOf(key))
    this.operations.delete(idOf(key))
    return QueryRecord.absent(key)
  }
}

/**
 * Options of the store.
 *
 * **Details**
 *
 * - `history`: how many of the last transitions of each query are kept. Default: none.
 * - `keep`: how long records are kept once the outcome is decided. Default: for ever.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly history?: HistoryOptions | undefined
  readonly keep?: KeepOptions | undefined
}

const make = (history: History.History | undefined, keep: Keep.Keep): RedisStore["Service"] => {
  const listeners = new Listeners()
  const results = new MemoryResults()
  const entries = history === undefined ? undefined : new MemoryHistory(history)
  const records = new Records(keep, (id, moves, { context, millis }) => {
    for (const move of moves) {
      entries?.add(id, move, millis)
      const { after, before, isLapse } = move
      Metrics.moved(before.state._tag, before.version, after.version, isLapse, context)
    }
    const record = moves.at(-1)?.after
    if (record !== undefined) listeners.each(id, (listener) => listener.onRecord(record, "notification"))
  })

  const at = <A, E>(f: (now: Now) => Result.Result<A, E>) =>
    Effect.withFiber(({ context }) =>
      Effect.flatMap(Clock.currentTimeMillis, (millis) => Effect.fromResult(f({ millis, context })))
    )
  const atKey = <A, E>(key: QueryKey, f: (now: Now) => Result.Result<A, E>) =>
    at((now): Result.Result<A, E | InvalidInput> => Result.flatMap(validateKey(key), () => f(now)))

  const compareAndSet = (key: QueryKey, command: Command) =>
    atKey(key, (now) =>
      Result.flatMap(validate(command), (valid): Result.Result<CommandResult, LeaseLost> => {
        const before = records.get(key, now)
        const { _tag, moves, record } = records.isBy(key, valid.operation)
          ? Lifecycle.carriedOut(before)
          : Lifecycle.decide(before, valid, now.millis, keep)
        if (_tag === "LeaseLost") return Result.fail(new LeaseLost({ fence: valid.fence ?? record.version, record }))
        const changed = _tag === "Changed"
        const { result } = valid
        const isNew = changed && moves.length > 0
        if (result !== undefined && (isNew || (result._tag === "Drop" && record.state._tag === "Known"))) {
          results.act(idOf(key), result, record, now.millis)
        }
        records.move(moves, now, valid.operation)
        Metrics.answered(valid.events, changed, now.context)
        return Result.succeed(
          !changed && result?._tag === "Get"
            ? { record, changed, results: results.get(idOf(key), now.millis) }
            : { record, changed }
        )
      })).pipe(Effect.catch(Metrics.refused(command.event, key)))

  const renew = (key: QueryKey, fence: number, lease: Duration.Input, report?: Report) =>
    atKey(key, (now) =>
      Result.flatMap(
        validateRenewal(fence, lease, report),
        (renewal): Result.Result<QueryRecord.QueryRecord, LeaseLost> => {
          const { _tag, record } = Lifecycle.renew(records.get(key, now), renewal, now.millis)
          if (_tag === "LeaseLost") return Result.fail(new LeaseLost({ fence, record }))
          records.replace(record)
          if (renewal.progress !== undefined) {
            listeners.each(idOf(key), (listener) => listener.onRecord(record, "notification"))
          }
          return Result.succeed(record)
        }
      )).pipe(Effect.catch(Metrics.orLeaseLost(Metrics.failed("renew the lease on", key))))

  const read = (key: QueryKey) =>
    Effect.catch(atKey(key, (now) => Result.succeed(records.get(key, now))), Metrics.failed("read", key))

  return RedisStore.of({
    // Without a fence no decision is that a lease is lost.
    compareAndSet: compareAndSet as RedisStore["Service"]["compareAndSet"],
    compareAndSetMany: Effect.forEach(([key, command]) => Effect.result(compareAndSet(key, command))),
    read,
    readMany: Effect.forEach((key) => Effect.result(read(key))),
    renew,
    changes: (key, listener) =>
      Effect.acquireRelease(
        Effect.map(Effect.fromResult(validateKey(key)), () => listeners.add(idOf(key), key, listener)),
        () => Effect.sync(() => listeners.remove(idOf(key), listener))
      ).pipe(Effect.as({ announcesAll: true }), Effect.catch(Metrics.failed("subscribe to", key))),
    keys: (db) =>
      Stream.unwrap(
        at(({ millis }) => Result.map(validateDb(db), (db) => Stream.fromArray(records.keys(db, millis))))
      ).pipe(
        Stream.mapError((reason) => new RedisStoreError({ operation: "list queries", reason }))
      ),
    databases: Stream.unwrap(
      Effect.map(Clock.currentTimeMillis, (millis) => Stream.fromArray(records.databases(millis)))
    ),
    history: (key) =>
      atKey(key, (now) => {
        records.get(key, now)
        return Result.succeed(entries?.get(idOf(key), now.millis) ?? [])
      }).pipe(Effect.catch(Metrics.failed("read the history of", key))),
    currentTime: DateTime.now,
    results: (key) =>
      Effect.catch(
        atKey(key, ({ millis }) => Result.succeed(results.get(idOf(key), millis))),
        Metrics.failed("read the results of", key)
      ),
    hasTimeToLive: true,
    hasResults: true
  })
}

/**
 * Provides a `RedisStore` in the memory of this process. Only fibers of this process share its queries.
 *
 * **When to use**
 *
 * In tests, in programs of one process, and to try the library without a server. Time is Effect's `Clock`, so `TestClock`
 * drives leases and waits.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<RedisStore> = Layer.sync(RedisStore, () => make(undefined, Keep.forever))

/**
 * Provides a `RedisStore` as `layer` does, with options. It fails with a `RedisStoreError` if an option is invalid.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<RedisStore, RedisStoreError> =>
  Layer.effect(
    RedisStore,
    Effect.gen(function*() {
      yield* Input.check(Input.storeIssue(options))
      return make(yield* History.checkOption(options.history), yield* Keep.checkOption(options.keep))
    })
  )

const idOf = (key: QueryKey): string => Keys.record("", key)
