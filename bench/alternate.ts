/** Measures two by turns, so that what else the machine does falls on both. */
import { Effect } from "effect"
import { QueryKey } from "effect-query-state"
import { median, type Pair, ratioOf } from "./statistics.ts"

export interface Side<E, R> {
  readonly run: (keys: ReadonlyArray<QueryKey.QueryKey>) => Effect.Effect<unknown, E, R>
}

export interface Options {
  readonly rounds: number
  /** How many queries a round has. */
  readonly queries: number
  /** How many steps each of them is. */
  readonly steps: number
}

let made = 0

/** Keys of queries that have never been seen, with ids as long as those of FlowMachine. */
export const freshKeys = (queries: number): ReadonlyArray<QueryKey.QueryKey> =>
  Array.from(
    { length: queries },
    () => QueryKey.makeUnsafe({ db: "flowdb", query: (made++).toString(16).padStart(32, "0") })
  )

const timed = Effect.fnUntraced(function*<E, R>(side: Side<E, R>, queries: number) {
  const keys = freshKeys(queries)
  const begun = performance.now()
  yield* side.run(keys)
  return performance.now() - begun
})

/** How much faster ours is than theirs, after both have been warmed up; and how many steps a second each makes. */
export const alternate = Effect.fnUntraced(function*<E1, R1, E2, R2>(
  ours: Side<E1, R1>,
  theirs: Side<E2, R2>,
  { queries, rounds, steps }: Options
) {
  const pairs: Array<Pair> = []
  for (let round = -3; round < rounds; round++) {
    const pair = [yield* timed(ours, queries), yield* timed(theirs, queries)] as const
    if (round >= 0) pairs.push(pair)
  }
  const aSecond = (times: ReadonlyArray<number>) => queries * steps * 1000 / median([...times])
  return {
    ...ratioOf(pairs.map(([ours, theirs]) => [theirs, ours])),
    ours: aSecond(pairs.map(([ours]) => ours)),
    theirs: aSecond(pairs.map(([, theirs]) => theirs))
  }
})
