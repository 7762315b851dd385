/** Waiting for a query: looks when its schedule says so, when a change is hinted at, and when a lease may have lapsed. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { StillPending } from "../../domain/QueryError.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import * as QueryState from "../../domain/QueryState.ts"
import type { Changes, RedisStore } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"

type Store = RedisStore["Service"]

/** A record whose outcome is decided. */
export interface Determinate extends QueryRecord {
  readonly state: QueryState.Determinate
}

export const isDeterminate = (record: QueryRecord): record is Determinate => QueryState.isDeterminate(record.state)

const noHints: Changes = { next: Effect.never, announcesAll: false }

/** Subscribes to the hints of a query; where that fails there are none, and the schedule alone says when to look. */
export const subscribe = (store: Store, key: QueryKey): Effect.Effect<Changes, never, Scope.Scope> =>
  store.changes(key).pipe(
    Effect.tapError((error) => Effect.logDebug("Waiting without notifications", error)),
    Effect.orElseSucceed(() => noHints)
  )

/** Waits for a hint at a version that is newer than the given one. */
export const newerThan = (changes: Changes, version: number): Effect.Effect<void> =>
  Effect.flatMap(changes.next, (hinted) => hinted > version ? Effect.void : newerThan(changes, version))

// A lease that is over by now, as far as it is known here, is looked at again after this time, and not at once.
const leastDelay = Duration.millis(10)

/** How long the claim of a record still holds if nobody renews it. */
const leaseLeft = (store: Store, { state }: QueryRecord): Effect.Effect<Duration.Duration> => {
  const expiresAt = QueryState.claimOf(state)?.expiresAt
  return expiresAt === undefined
    ? Effect.succeed(Duration.infinity)
    : Effect.map(store.currentTime, (now) => Duration.max(DateTime.distance(now, expiresAt), leastDelay))
}

/** Ends each delay of a schedule as soon as there may be something to see. */
const wokenBy = (store: Store, changes: Changes) =>
  Schedule.modifyDelay<unknown, StillPending>(({ duration, input: { record } }) =>
    Effect.flatMap(leaseLeft(store, record), (left) =>
      newerThan(changes, record.version).pipe(
        Effect.timeoutOrElse({ duration: Duration.min(duration, left), orElse: () => Effect.void }),
        Effect.as(Duration.zero)
      ))
  )

/** When to look, given what the store announces. */
export type Policy = (changes: Changes) => Schedule.Schedule<unknown, StillPending>

/**
 * Reads a record until it is one to answer with, and fails with the last one where the schedule ends before.
 *
 * Only a record is worth another look; a store that fails ends it.
 */
const readUntil = <A extends QueryRecord>(
  store: Store,
  key: QueryKey,
  changes: Changes,
  policy: Policy,
  isWanted: (record: QueryRecord) => record is A
): Effect.Effect<A, StillPending | RedisStoreError> => {
  const look = Effect.flatMap(
    Effect.result(store.read(key)),
    (result): Effect.Effect<Result.Result<A, RedisStoreError>, StillPending> => {
      if (Result.isFailure(result)) return Effect.succeed(Result.fail(result.failure))
      const record = result.success
      return isWanted(record) ? Effect.succeed(Result.succeed(record)) : Effect.fail(new StillPending({ record }))
    }
  )
  return Effect.flatMap(Effect.retry(look, wokenBy(store, changes)(policy(changes))), Effect.fromResult)
}

export const waitUntilComplete = Effect.fnUntraced(function*(store: Store, key: QueryKey, options: {
  readonly policy: Policy
  readonly timeout: Duration.Input | undefined
}): Effect.fn.Return<Determinate, StillPending | RedisStoreError> {
  let last = yield* store.read(key)
  if (isDeterminate(last)) return last

  const isWanted = (record: QueryRecord): record is Determinate => {
    last = record
    return isDeterminate(record)
  }
  // Subscribe first, read afterwards: a change in between is seen by one of the two.
  const wait = subscribe(store, key).pipe(
    Effect.flatMap((changes) => readUntil(store, key, changes, options.policy, isWanted)),
    Effect.scoped
  )
  return yield* options.timeout === undefined ? wait : Effect.timeoutOrElse(wait, {
    duration: options.timeout,
    orElse: () => Effect.fail(new StillPending({ record: last }))
  })
})

/** The current record, then every later one that is seen, for as long as the policy goes on. */
export const changes = (store: Store, key: QueryKey, policy: Policy): Stream.Stream<QueryRecord, RedisStoreError> =>
  Stream.unwrap(Effect.map(subscribe(store, key), (changes) =>
    Stream.unfold(-1, (seen) => {
      // A record that was deleted has version 0 again.
      const isNews = (record: QueryRecord): record is QueryRecord =>
        record.version > seen || (record.version === 0 && seen > 0)
      return readUntil(store, key, changes, policy, isNews).pipe(
        Effect.map((record) => [record, record.version] as const),
        Effect.catchTag("StillPending", () => Effect.undefined)
      )
    })))
