/**
 * Store in the memory of this process: no server needed.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { Progress } from "../domain/Progress.ts"
import { LeaseLost } from "../domain/QueryError.ts"
import type { DbId, QueryKey } from "../domain/QueryKey.ts"
import * as QueryRecord from "../domain/QueryRecord.ts"
import { type Answer, type Command, type HistoryOptions, knownTimeToLive, RedisStore } from "../services/RedisStore.ts"
import { RedisStoreError } from "../services/RedisStoreError.ts"
import { check, checkRenewal } from "./internal/command.ts"
import { Histories, type Move } from "./internal/histories.ts"
import * as History from "./internal/history.ts"
import * as Keys from "./internal/keys.ts"
import * as Lifecycle from "./internal/lifecycle.ts"
import { Listeners } from "./internal/listeners.ts"

const knownMillis = Duration.toMillis(knownTimeToLive)

/** Keeps the records of all queries, and forgets those that have been Known for `knownTimeToLive`. */
class Records {
  private readonly byId = new Map<string, QueryRecord.QueryRecord>()
  // When to forget a Known query, oldest first, since all are kept for the same time.
  private readonly until = new Map<string, number>()
  private readonly onMove: (id: string, move: Move, nowMillis: number) => void

  constructor(onMove: (id: string, move: Move, nowMillis: number) => void) {
    this.onMove = onMove
  }

  get(key: QueryKey, nowMillis: number): QueryRecord.QueryRecord {
    this.forget(nowMillis)
    const stored = this.byId.get(idOf(key)) ?? QueryRecord.absent(key)
    const settled = Lifecycle.settle(stored, nowMillis)
    if (settled === undefined) return stored
    this.move({ event: settled.event, before: stored, after: settled.record }, nowMillis)
    return settled.record
  }

  keys(db: DbId, nowMillis: number): ReadonlyArray<QueryKey> {
    this.forget(nowMillis)
    return Array.from(this.byId.values(), ({ key }) => key).filter((key) => key.db === db)
  }

  /** Stores a record that has moved on. */
  move(move: Move, nowMillis: number): void {
    const { key, state } = move.after
    const id = idOf(key)
    this.byId.set(id, move.after)
    this.until.delete(id)
    if (state._tag === "Known") this.until.set(id, nowMillis + knownMillis)
    this.onMove(id, move, nowMillis)
  }

  /** Stores a record with another lease, or other progress. */
  replace(record: QueryRecord.QueryRecord): void {
    this.byId.set(idOf(record.key), record)
  }

  private forget(nowMillis: number): void {
    for (const [id, until] of this.until) {
      if (nowMillis < until) return
      this.until.delete(id)
      this.byId.delete(id)
    }
  }
}

/**
 * Options of the store.
 *
 * **Details**
 *
 * - `history`: how many of the last transitions of each query are kept. Default: none.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly history?: HistoryOptions | undefined
}

const make = (history: History.History | undefined): RedisStore["Service"] => {
  const listeners = new Listeners()
  const histories = history === undefined ? undefined : new Histories(history)
  const records = new Records((id, move, nowMillis) => {
    histories?.add(id, move, nowMillis)
    listeners.hint(id, move.after.version)
  })

  const compareAndSet = (key: QueryKey, command: Command, nowMillis: number) =>
    check(command).pipe(
      Result.mapError((reason) => new RedisStoreError({ operation: command.event, key, reason })),
      Result.flatMap((checked): Result.Result<Answer, LeaseLost> => {
        const before = records.get(key, nowMillis)
        const { _tag, record } = Lifecycle.decide(before, checked, nowMillis)
        if (_tag === "LeaseLost") return Result.fail(new LeaseLost({ fence: checked.fence ?? record.version, record }))
        if (_tag === "Changed") records.move({ event: command.event, before, after: record }, nowMillis)
        return Result.succeed({ record, changed: _tag === "Changed" })
      })
    )

  const renew = (
    key: QueryKey,
    fence: number,
    lease: Duration.Input,
    progress: Progress | undefined,
    nowMillis: number
  ) =>
    checkRenewal(fence, lease, progress).pipe(
      Result.mapError((reason) => new RedisStoreError({ operation: "renew the lease on", key, reason })),
      Result.flatMap((renewal): Result.Result<QueryRecord.QueryRecord, LeaseLost> => {
        const { _tag, record } = Lifecycle.renew(records.get(key, nowMillis), renewal, nowMillis)
        if (_tag === "LeaseLost") return Result.fail(new LeaseLost({ fence, record }))
        records.replace(record)
        if (progress !== undefined) listeners.progress(idOf(key))
        return Result.succeed(record)
      })
    )

  const read = (key: QueryKey, nowMillis: number) => Result.succeed(records.get(key, nowMillis))

  const at = <A, E>(f: (nowMillis: number) => Result.Result<A, E>) =>
    Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => Effect.fromResult(f(nowMillis)))

  return RedisStore.of({
    // Without a fence no decision is that a lease is lost.
    compareAndSet: ((key: QueryKey, command: Command) =>
      at((nowMillis) => compareAndSet(key, command, nowMillis))) as RedisStore["Service"]["compareAndSet"],
    compareAndSetMany: (commands) =>
      at((nowMillis) =>
        Result.succeed(commands.map(([key, command]) =>
          compareAndSet(key, command, nowMillis)
        ))
      ),
    read: (key) => at((nowMillis) => read(key, nowMillis)),
    readMany: (keys) => at((nowMillis) => Result.succeed(keys.map((key) => read(key, nowMillis)))),
    renew: (key, fence, lease, progress) => at((nowMillis) => renew(key, fence, lease, progress, nowMillis)),
    changes: (key, listener) =>
      Effect.acquireRelease(
        Effect.sync(() => listeners.add(idOf(key), listener)),
        () => Effect.sync(() => listeners.remove(idOf(key), listener))
      ).pipe(Effect.as({ announcesAll: true })),
    keys: (db) => Stream.unwrap(at((nowMillis) => Result.succeed(Stream.fromArray(records.keys(db, nowMillis))))),
    history: (key) =>
      at((nowMillis) => {
        records.get(key, nowMillis)
        return Result.succeed(histories?.get(idOf(key), nowMillis) ?? [])
      }),
    currentTime: DateTime.now
  })
}

/**
 * Provides a `RedisStore` that lives in the memory of this process and shares its queries with the fibers of this
 * process alone.
 *
 * **When to use**
 *
 * In tests, in programs of one process, and to try things without a server. Time is Effect's `Clock`, so that `TestClock`
 * drives leases and waits.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<RedisStore> = Layer.sync(RedisStore, () => make(undefined))

/**
 * Provides a `RedisStore` as `layer` does, with options. It fails with a `RedisStoreError` where those are not valid.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<RedisStore, RedisStoreError> =>
  Layer.effect(RedisStore, Effect.map(History.checkOption(options.history), make))

const idOf = (key: QueryKey): string => Keys.record("", key)
