/**
 * Queries that would wait for each other for ever.
 *
 * A record says for which queries its holder waits, and which versions they had: such a note holds as long as the version does.
 * Whoever is about to wait within work writes its own note first, and then follows those of others. Of several that close a
 * cycle together, the last to write finds all notes.
 */
import * as Effect from "effect/Effect"
import { QueryCycle, StillPending } from "../../domain/QueryError.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import * as QueryRecord from "../../domain/QueryRecord.ts"
import type * as QueryWait from "../QueryWait.ts"
import type { RedisStore } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"
import { current, type Holding } from "./holding.ts"
import { isPassing, retries } from "./settle.ts"
import * as Wait from "./wait.ts"

type Store = RedisStore["Service"]

// So many records are read at most before a wait that is part of other work.
const maxReads = 1000

interface Way {
  readonly to: QueryRecord.WaitsFor
  readonly path: ReadonlyArray<QueryKey>
}

const isSame = (a: QueryKey, b: QueryKey): boolean => a.db === b.db && a.query === b.query

/** The way from one of our own claims back to it, if `to` is one. */
const closes = (stack: ReadonlyArray<Holding>, { path, to }: Way): ReadonlyArray<QueryKey> | undefined => {
  const depth = stack.findIndex(({ fence, key }) => fence === to.version && isSame(key, to.key))
  if (depth === -1) return undefined
  const ours = stack.slice(0, depth + 1).toReversed().map(({ key }) => key)
  return [...ours, ...path, to.key]
}

/** Follows what others wait for, and fails if that leads back to one of our own claims. */
const follow = Effect.fnUntraced(function*(
  store: Store,
  stack: ReadonlyArray<Holding>,
  to: QueryRecord.WaitsFor
): Effect.fn.Return<void, QueryCycle> {
  const ways: Array<Way> = [{ to, path: [] }]
  const seen = new Set<string>()
  for (let way = ways.shift(); way !== undefined && seen.size < maxReads; way = ways.shift()) {
    const { path, to } = way
    // A note of an older version says nothing of what the query waits for now.
    const id = `${to.version} ${to.key.db.length} ${to.key.db}${to.key.query}`
    if (seen.has(id)) continue
    seen.add(id)
    // A query that cannot be read, other than in an outage, ends the wait for it by itself.
    const record = yield* store.read(to.key).pipe(
      Effect.retry({ schedule: retries, while: isPassing }),
      Effect.orElseSucceed(() => QueryRecord.absent(to.key))
    )
    if (record.version !== to.version) continue
    for (const next of record.waitsFor ?? []) {
      const way = { to: next, path: [...path, to.key] }
      const cycle = closes(stack, way)
      if (cycle !== undefined) return yield* new QueryCycle({ path: cycle })
      ways.push(way)
    }
  }
})

type Waited = Effect.Effect<QueryRecord.Determinate, QueryCycle | StillPending | RedisStoreError>

const waitWithin = (
  store: Store,
  record: QueryRecord.QueryRecord,
  { schedule, timeout }: QueryWait.Options,
  holding: Holding
): Waited => {
  const { stack } = holding
  let last = record
  // A note names a version. A query that was Queued and is now Executing may wait for others since.
  const wait: Waited = Effect.suspend((): Waited => {
    const before = last
    if (QueryRecord.isDeterminate(before)) return Effect.succeed(before)
    const to = { key: before.key, version: before.version }
    const cycle = closes(stack, { to, path: [] })
    if (cycle !== undefined) return Effect.fail(new QueryCycle({ path: cycle }))
    const hasMoved = (record: QueryRecord.QueryRecord): record is QueryRecord.QueryRecord =>
      record.version !== before.version
    const moved = holding.waitingFor(
      before,
      Effect.andThen(follow(store, stack, to), Wait.waitFrom(store, before, { schedule }, hasMoved))
    )
    return Effect.flatMap(moved, (record) => {
      last = record
      return wait
    })
  })
  return timeout === undefined ? wait : Effect.timeoutOrElse(wait, {
    duration: timeout,
    orElse: () => Effect.fail(new StillPending({ record: last }))
  })
}

/** Waits on from a record that is known already, and fails at once if that would never end. */
export const waitFrom = (store: Store, record: QueryRecord.QueryRecord, options: QueryWait.Options): Waited =>
  Effect.flatMap(
    current,
    (holding): Waited =>
      holding === undefined || !holding.isIn(store)
        ? Wait.waitFrom(store, record, options, QueryRecord.isDeterminate)
        : waitWithin(store, record, options, holding)
  )
