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
import { LeaseLost } from "../domain/QueryError.ts"
import type { DbId, QueryKey } from "../domain/QueryKey.ts"
import * as QueryRecord from "../domain/QueryRecord.ts"
import { type Answer, type Command, knownTimeToLive, RedisStore } from "../services/RedisStore.ts"
import { RedisStoreError } from "../services/RedisStoreError.ts"
import { check, checkRenewal } from "./internal/command.ts"
import * as Keys from "./internal/keys.ts"
import * as Lifecycle from "./internal/lifecycle.ts"
import { Listeners } from "./internal/listeners.ts"

const knownMillis = Duration.toMillis(knownTimeToLive)

/** Keeps the records of all queries, and forgets those that have been Known for `knownTimeToLive`. */
class Records {
  private readonly byId = new Map<string, QueryRecord.QueryRecord>()
  // When to forget a Known query, oldest first, since all are kept for the same time.
  private readonly until = new Map<string, number>()
  private readonly announce: (id: string, version: number) => void

  constructor(announce: (id: string, version: number) => void) {
    this.announce = announce
  }

  get(key: QueryKey, nowMillis: number): QueryRecord.QueryRecord {
    this.forget(nowMillis)
    const stored = this.byId.get(idOf(key)) ?? QueryRecord.absent(key)
    const settled = Lifecycle.settle(stored, nowMillis)
    if (settled !== stored) this.move(settled, nowMillis)
    return settled
  }

  keys(db: DbId, nowMillis: number): ReadonlyArray<QueryKey> {
    this.forget(nowMillis)
    return Array.from(this.byId.values(), ({ key }) => key).filter((key) => key.db === db)
  }

  /** Stores a record that has moved on. */
  move(record: QueryRecord.QueryRecord, nowMillis: number): void {
    const id = idOf(record.key)
    this.byId.set(id, record)
    this.until.delete(id)
    if (record.state._tag === "Known") this.until.set(id, nowMillis + knownMillis)
    this.announce(id, record.version)
  }

  /** Stores a record with another lease. */
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
export const layer: Layer.Layer<RedisStore> = Layer.sync(RedisStore, () => {
  const listeners = new Listeners()
  const records = new Records((id, version) => listeners.hint(id, version))

  const compareAndSet = (key: QueryKey, command: Command, nowMillis: number) =>
    check(command).pipe(
      Result.mapError((reason) => new RedisStoreError({ operation: command.event, key, reason })),
      Result.flatMap((checked): Result.Result<Answer, LeaseLost> => {
        const { _tag, record } = Lifecycle.decide(records.get(key, nowMillis), checked, nowMillis)
        if (_tag === "LeaseLost") return Result.fail(new LeaseLost({ fence: checked.fence ?? record.version, record }))
        if (_tag === "Changed") records.move(record, nowMillis)
        return Result.succeed({ record, changed: _tag === "Changed" })
      })
    )

  const renew = (key: QueryKey, fence: number, lease: Duration.Input, nowMillis: number) =>
    checkRenewal(fence, lease).pipe(
      Result.mapError((reason) => new RedisStoreError({ operation: "renew the lease on", key, reason })),
      Result.flatMap(({ leaseMillis }): Result.Result<QueryRecord.QueryRecord, LeaseLost> => {
        const { _tag, record } = Lifecycle.renew(records.get(key, nowMillis), fence, leaseMillis, nowMillis)
        if (_tag === "LeaseLost") return Result.fail(new LeaseLost({ fence, record }))
        records.replace(record)
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
    renew: (key, fence, lease) => at((nowMillis) => renew(key, fence, lease, nowMillis)),
    changes: (key, listener) =>
      Effect.acquireRelease(
        Effect.sync(() => listeners.add(idOf(key), listener)),
        () => Effect.sync(() => listeners.remove(idOf(key), listener))
      ).pipe(Effect.as({ announcesAll: true })),
    keys: (db) => Stream.unwrap(at((nowMillis) => Result.succeed(Stream.fromArray(records.keys(db, nowMillis))))),
    currentTime: DateTime.now
  })
})

const idOf = (key: QueryKey): string => Keys.record("", key)
