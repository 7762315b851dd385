/** Claims of one query by many runs of one process: one command is under way at a time, and the others learn from it. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { keyIssue } from "../../domain/internal/ids.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import * as QueryState from "../../domain/QueryState.ts"
import type { CommandResult, RedisStore } from "../RedisStore.ts"

type Store = RedisStore["Service"]

/** The record that a claim was answered with; `undefined` where it failed. */
type UnderWay = Deferred.Deferred<QueryRecord | undefined>

const byStore = new WeakMap<Store, Map<string, UnderWay>>()

const claimsOf = (store: Store): Map<string, UnderWay> => {
  const claims = byStore.get(store) ?? new Map<string, UnderWay>()
  byStore.set(store, claims)
  return claims
}

const idOf = ({ db, query }: QueryKey): string => `${db.length} ${db}${query}`

/**
 * Claims a query, unless another claim of this process is under way. A claim that was sent before the question answers it
 * where it finds or makes the query pending, since the others have to wait in any case. One that was sent after it always
 * does. So many runs of one query at once are one claim, or two.
 */
export const coalesced = <E>(
  store: Store,
  key: QueryKey,
  claim: Effect.Effect<CommandResult, E>,
  hasWaited = false
): Effect.Effect<CommandResult, E> =>
  Effect.suspend(() => {
    // The store refuses a key that is none.
    if (keyIssue(key) !== undefined) return claim
    const claims = claimsOf(store)
    const id = idOf(key)
    const other = claims.get(id)
    if (other !== undefined) {
      return Effect.flatMap(Deferred.await(other), (record) =>
        record !== undefined && (hasWaited || QueryState.isPending(record.state))
          ? Effect.succeed({ record, changed: false })
          : coalesced(store, key, claim, true))
    }
    const mine: UnderWay = Deferred.makeUnsafe()
    claims.set(id, mine)
    // A claim is not interruptible, so this always ends.
    return Effect.onExit(claim, (exit) =>
      Effect.sync(() => {
        claims.delete(id)
        Deferred.doneUnsafe(mine, Exit.succeed(Exit.isSuccess(exit) ? exit.value.record : undefined))
      }))
  })
