/**
 * Queries for the tests: fresh keys, and a way into every state.
 */
import { Effect } from "effect"
import {
  type QueryError,
  type QueryEvent,
  QueryKey,
  QueryRecord,
  type QueryState,
  RedisStore,
  type RedisStoreError,
  Transition
} from "effect-query-state"
import { randomUUID } from "node:crypto"

const run = randomUUID()
let count = 0

/** A key that no other test, and no other run, has. */
export const freshKey: Effect.Effect<QueryKey.QueryKey> = Effect.sync(() => {
  count += 1
  return QueryKey.makeUnsafe({ db: run, query: `${count}` })
})

/** The key of the record of a query in Redis, which is also its channel, for ids that need no escaping. */
export const redisKeyOf = ({ db, query }: { readonly db: string; readonly query: string }): string =>
  `query-state:{${db}:${query}}`

/** The events of one whole lifecycle, from Known to Known. */
export const life = ["Queue", "Execute", "Finish", "Reset", "FinishReset"] as const

/** The shortest sequence of events that leads from Known to a state. */
export const pathTo = (tag: QueryState.Tag): ReadonlyArray<QueryEvent.QueryEvent> => {
  const paths = new Map<QueryState.Tag, ReadonlyArray<QueryEvent.QueryEvent>>([["Known", []]])
  // A Map goes on with what is added while it is walked through.
  for (const [reached, path] of paths) {
    for (const { event, from, to } of Transition.edges) {
      if (from === reached && !paths.has(to)) paths.set(to, [...path, event])
    }
  }
  return paths.get(tag) ?? []
}

/** Brings a fresh query into a state, without claims and reasons; the last step can be given what belongs to it. */
export const driveTo = Effect.fnUntraced(function*(
  key: QueryKey.QueryKey,
  tag: QueryState.Tag,
  lastStep?: Omit<RedisStore.UnfencedCommand, "event">
): Effect.fn.Return<QueryRecord.QueryRecord, RedisStoreError.RedisStoreError, RedisStore.RedisStore> {
  const store = yield* RedisStore.RedisStore
  const path = pathTo(tag)
  let record = QueryRecord.absent(key)
  for (const [step, event] of path.entries()) {
    const answer = yield* store.compareAndSet(key, { event, ...(step === path.length - 1 ? lastStep : undefined) })
    record = answer.record
  }
  return record
})

/** The fields of a store error as plain data: two errors compare only by their message. */
export const errorFields = (error: QueryError.LeaseLost | RedisStoreError.RedisStoreError): Record<string, unknown> =>
  error._tag === "LeaseLost"
    ? { _tag: error._tag, fence: error.fence, record: error.record }
    : { _tag: error.reason._tag, operation: error.operation, key: error.key }
