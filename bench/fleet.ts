/** Eight processes that all want the results of the same queries, each of which must be executed once. */
import { Effect } from "effect"
import * as Child from "./child.ts"
import type { Order, Report, With } from "./runOnceProcess.ts"
import { Server } from "./Server.ts"
import { median, ratioOf } from "./statistics.ts"

export const processes = 8

/** What one round took: time, and microseconds of processor for each run or join. */
export interface Round {
  readonly millis: number
  readonly client: number
  readonly server: number
  readonly isOnce: boolean
}

let rounds = 0

export interface Fleet {
  /** Runs or joins new queries in all processes. */
  readonly round: Effect.Effect<Round>
}

/** Starts the processes, and returns once all are ready. */
export const start = Effect.fnUntraced(function*(
  what: With,
  { queries, tsconfig }: { readonly queries: number; readonly tsconfig?: string | undefined }
) {
  const server = yield* Server
  const children = yield* Effect.replicateEffect(
    Child.start("runOnceProcess.ts", { args: [server.url, what, `${queries}`], tsconfig }),
    processes
  )
  yield* Effect.forEach(children, Child.message, { concurrency: "unbounded" })
  const runs = queries * processes

  const round = Effect.gen(function*() {
    const order: Order = { round: `${what}-${rounds++}` }
    const before = yield* server.processor
    const begun = performance.now()
    const answers = yield* Effect.forEach(children, (child) => Child.ask(child, order), { concurrency: "unbounded" })
    const millis = performance.now() - begun
    const used = (yield* server.processor) - before
    const reports = answers.map((text): Report => JSON.parse(text))
    const sumOf = (what: keyof Report) => reports.reduce((sum, report) => sum + report[what], 0)
    return {
      millis,
      client: sumOf("processor") / runs,
      server: used / runs,
      isOnce: sumOf("executed") === queries && sumOf("results") === runs
    } satisfies Round
  })
  return { round } satisfies Fleet
})

export type RoundPair = readonly [ours: Round, theirs: Round]

/** One round of each, one after the other. */
export const pair = (ours: Fleet, theirs: Fleet): Effect.Effect<RoundPair> => Effect.all([ours.round, theirs.round])

/** Compares rounds by one of their figures. */
export const compare = (pairs: ReadonlyArray<RoundPair>, figure: "client" | "millis" | "server") => {
  const values = pairs.map(([ours, theirs]) => [ours[figure], theirs[figure]] as const)
  return {
    ...ratioOf(values),
    ours: median(values.map(([ours]) => ours)),
    theirs: median(values.map(([, theirs]) => theirs))
  }
}

const window = 5

const isFalling = (times: ReadonlyArray<number>): boolean =>
  times.length < 2 * window ||
  median(times.slice(-window)) < 0.98 * median(times.slice(-2 * window, -window))

/** Repeats rounds of both until neither gets faster, and returns how many that took. */
export const warmUp = Effect.fnUntraced(function*(ours: Fleet, theirs: Fleet, most: number) {
  const pairs: Array<RoundPair> = []
  while (
    pairs.length < most &&
    (isFalling(pairs.map(([{ millis }]) => millis)) || isFalling(pairs.map(([, { millis }]) => millis)))
  ) pairs.push(yield* pair(ours, theirs))
  return pairs.length
})
