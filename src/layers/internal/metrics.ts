/** Counts transitions and failures, in the same way for every store. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { keyIssue } from "../../domain/internal/ids.ts"
import type { LeaseLost } from "../../domain/QueryError.ts"
import type * as QueryEvent from "../../domain/QueryEvent.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type * as QueryState from "../../domain/QueryState.ts"
import * as Transition from "../../domain/Transition.ts"
import * as QueryMetrics from "../../services/QueryMetrics.ts"
import { type Failure, RedisStoreError } from "../../services/RedisStoreError.ts"
import { isPath } from "./command.ts"

/**
 * Counts a change of a query, by one transition or more: its state before, since when and until when in microseconds, and
 * whether a lease lapsed.
 */
export const moved = (
  from: QueryState.Tag,
  sinceMicros: number,
  nowMicros: number,
  isLapsed: boolean,
  context: Context.Context<never>
): void => {
  // It is unknown since when a query without a record is Known.
  if (sinceMicros > 0) {
    QueryMetrics.stateDuration[from].updateUnsafe(Math.max(nowMicros - sinceMicros, 0) / 1_000_000, context)
  }
  if (isLapsed) QueryMetrics.leasesLapsed.updateUnsafe(1, context)
}

/** Counts a store failure, and fails with its `RedisStoreError`. */
export const failed = (operation: string, key: QueryKey) => (reason: Failure): Effect.Effect<never, RedisStoreError> =>
  Effect.withFiber(({ context }) => {
    QueryMetrics.storeErrors[reason._tag].updateUnsafe(1, context)
    // The schema of the error refuses an invalid key.
    return Effect.fail(
      new RedisStoreError({ operation, ...(keyIssue(key) === undefined ? { key } : undefined), reason })
    )
  })

/** Fails with `LeaseLost` as it is, and handles any other failure with `failed`. */
export const orLeaseLost =
  (failed: (reason: Failure) => Effect.Effect<never, RedisStoreError>) =>
  (error: Failure | LeaseLost): Effect.Effect<never, RedisStoreError | LeaseLost> =>
    error._tag === "LeaseLost" ? Effect.fail(error) : failed(error)

/** Counts transitions that the store answered. */
export const answered = (
  events: ReadonlyArray<QueryEvent.QueryEvent>,
  changed: boolean,
  context: Context.Context<never>
): void => count(events, changed ? "changed" : "refused", context)

const count = (
  events: ReadonlyArray<QueryEvent.QueryEvent>,
  outcome: QueryMetrics.TransitionOutcome,
  context: Context.Context<never>
): void => {
  for (const event of events) QueryMetrics.transitions[event][outcome].updateUnsafe(1, context)
}

/** Counts transitions that failed, and fails with their error. */
export const refused =
  (path: Transition.Path, key: QueryKey) =>
  (error: Failure | LeaseLost): Effect.Effect<never, RedisStoreError | LeaseLost> =>
    Effect.withFiber(({ context }) => {
      const events = Transition.eventsOf(path)
      if (!isPath(events)) return orLeaseLost(failed("trigger an event on", key))(error)
      count(events, error._tag === "LeaseLost" ? "lease_lost" : "failed", context)
      return orLeaseLost(failed(events.join(", "), key))(error)
    })
