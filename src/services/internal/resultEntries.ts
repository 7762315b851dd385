/**
 * Results in a `KeyValueStore`: the text of each run is an entry of its own, and what is left beside the record is the key of
 * that entry.
 *
 * A list beside the entries names the fences of the runs that have written one, so that the next run also finds what a run left
 * that died, or whose record has expired.
 */
import * as Effect from "effect/Effect"
import type * as KeyValueStore from "effect/persistence/KeyValueStore"
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { RedisStore, Results } from "../RedisStore.ts"
import type { RedisStoreError } from "../RedisStoreError.ts"
import { sha256 } from "./sha256.ts"

type Store = RedisStore["Service"]

/** An entry that a run has written, and all entries that the query had then. */
export interface Written {
  readonly entry: string
  readonly all: ReadonlyArray<string>
}

export interface ResultEntries {
  /** The text of an entry, if it is there. */
  readonly get: (entry: string) => Effect.Effect<string | undefined, KeyValueStore.KeyValueStoreError>
  /** Writes the text that a run with this fence leaves. */
  readonly write: (
    key: QueryKey,
    fence: number,
    text: string
  ) => Effect.Effect<Written, KeyValueStore.KeyValueStoreError>
  /** All entries of a query. */
  readonly all: (key: QueryKey) => Effect.Effect<ReadonlyArray<string>, KeyValueStore.KeyValueStoreError>
  /** Removes those of the entries that are no results of the query. */
  readonly removeUnused: (
    key: QueryKey,
    entries: ReadonlyArray<string>
  ) => Effect.Effect<void, KeyValueStore.KeyValueStoreError | RedisStoreError>
}

const isUsed = ({ failure, success }: Results) => (entry: string): boolean =>
  entry === success?.text || entry === failure?.text

export const make = (store: Store, entries: KeyValueStore.KeyValueStore): ResultEntries => {
  // Short enough for the name of a file, whatever the ids are.
  const listOf = ({ db, query }: QueryKey) =>
    Effect.map(sha256(`${db.length} ${db}${query}`), (hash) => `query-state-${hash}`)

  const read = (list: string) =>
    Effect.map(
      entries.get(list),
      (text = "") => text.split(" ").filter((fence) => /^\d+$/.test(fence)).map((fence) => `${list}-${fence}`)
    )

  const write = (list: string, all: ReadonlyArray<string>) =>
    all.length === 0
      ? entries.remove(list)
      : entries.set(list, all.map((entry) => entry.slice(list.length + 1)).join(" "))

  return {
    get: (entry) => entries.get(entry),
    write: Effect.fnUntraced(function*(key: QueryKey, fence: number, text: string) {
      const list = yield* listOf(key)
      const entry = `${list}-${fence}`
      const all = [...(yield* read(list)), entry]
      yield* write(list, all)
      yield* entries.set(entry, text)
      return { entry, all }
    }),
    all: (key) => Effect.flatMap(listOf(key), read),
    removeUnused: Effect.fnUntraced(function*(key: QueryKey, candidates: ReadonlyArray<string>) {
      if (candidates.length === 0) return
      const list = yield* listOf(key)
      const used = isUsed(yield* store.results(key))
      const unused = new Set(candidates.filter((entry) => !used(entry)))
      yield* Effect.forEach(unused, (entry) => entries.remove(entry), { discard: true })
      // Others may have written meanwhile.
      yield* write(list, (yield* read(list)).filter((entry) => !unused.has(entry)))
    })
  }
}
