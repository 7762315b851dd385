/** Measures two sides alternately, so that what else the machine does slows both. */
import { Effect } from "effect"
import { QueryKey } from "effect-query-state"
import { median, type Pair, ratesOf, type Ratio } from "./statistics.ts"

export interface Side<E, R> {
  readonly run: (keys: ReadonlyArray<QueryKey.QueryKey>) => Effect.Effect<unknown, E, R>
}

export interface Options {
  readonly rounds: number
  /** How many queries a round has. */
  readonly queries: number
  /** How many transitions each of them makes. */
  readonly transitions: number
}

/** How much faster ours is than theirs, and how many transitions a second each makes. */
export interface Comparison extends Ratio {
  readonly ours: number
  readonly theirs: number
}

let made = 0

/** Keys of new queries, with ids as long as those of FlowMachine. */
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

/** Compares two sides. Three rounds warm both up. */
export const alternate = Effect.fnUntraced(function*<E1, R1, E2, R2>(
  ours: Side<E1, R1>,
  theirs: Side<E2, R2>,
  { queries, rounds, transitions }: Options
): Effect.fn.Return<Comparison, E1 | E2, R1 | R2> {
  const pairs: Array<Pair> = []
  for (let round = -3; round < rounds; round++) {
    const pair = [yield* timed(ours, queries), yield* timed(theirs, queries)] as const
    if (round >= 0) pairs.push(pair)
  }
  const aSecond = (times: ReadonlyArray<number>) => queries * transitions * 1000 / median([...times])
  return {
    ...ratesOf(pairs),
    ours: aSecond(pairs.map(([ours]) => ours)),
    theirs: aSecond(pairs.map(([, theirs]) => theirs))
  }
})
