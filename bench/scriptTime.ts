/** How long a transition takes inside Redis, compared with FlowMachine's script, and how that grows with the queries. */
import { Effect } from "effect"
import { RedisStore } from "effect-query-state"
import { freshKeys } from "./alternate.ts"
import * as Reference from "./reference.ts"
import type { Row, Scale } from "./Row.ts"
import { Server, StoreLayer } from "./Server.ts"
import { count, median, type Pair, ratioOf, show, spread } from "./statistics.ts"

const life = [["Queue", {}], ["Execute", { lease: "30 seconds", holder: "bench:1" }], ["Finish", {}]] as const
const referenceLife = ["QUEUE", "EXECUTE", "FINISH"] as const

// The least script that reads and writes a hash: its time grows, too, as more keys fit into no cache of the processor.
const leastScript = `
redis.call("HSET", KEYS[1], "s", ARGV[1])
return redis.call("HGET", KEYS[1], "s")
`

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const { raw } = yield* Server
  const store = yield* RedisStore.RedisStore
  const queries = isQuick ? 500 : 5_000
  const rounds = isQuick ? 3 : 11

  /** Microseconds a call, as Redis counts them. */
  const usecOf = <E, R>(command: string, effect: Effect.Effect<unknown, E, R>) =>
    Effect.gen(function*() {
      yield* Effect.promise(() => raw.config("RESETSTAT"))
      yield* effect
      const stats = yield* Effect.promise(() => raw.info("commandstats"))
      return Number(new RegExp(`cmdstat_${command}:.*usec_per_call=([\\d.]+)`).exec(stats)?.[1])
    })

  const ours = Effect.suspend(() => {
    const keys = freshKeys(queries)
    let fences: ReadonlyArray<number | undefined> = []
    return usecOf(
      "evalsha",
      Effect.forEach(life, ([event, options]) =>
        Effect.map(
          store.compareAndSetMany(keys.map((key, index) => [key, { event, fence: fences[index], ...options }])),
          (answers) => {
            fences = event === "Execute"
              ? answers.map((answer) => answer._tag === "Success" ? answer.success.record.version : undefined)
              : []
          }
        ))
    )
  })

  const theirs = Effect.suspend(() => {
    const keys = freshKeys(queries)
    const all = (f: (key: (typeof keys)[number]) => Promise<unknown>) =>
      Effect.forEach(keys, (key) => Effect.promise(() => f(key)), { concurrency: 100, discard: true })
    return Effect.andThen(
      all((key) => Reference.make(raw, key)),
      usecOf("eval", Effect.forEach(referenceLife, (event) => all((key) => Reference.trigger(raw, key, event))))
    )
  })

  const least = yield* Effect.map(Effect.promise(() => raw.script("LOAD", leastScript)), (sha) =>
    Effect.suspend(() => {
      const keys = freshKeys(queries).map(({ db, query }) => `query-state:{${db}:${query}}`)
      return usecOf(
        "evalsha",
        Effect.forEach(referenceLife, (state) =>
          Effect.promise(() => {
            const pipeline = raw.pipeline()
            for (const key of keys) pipeline.evalsha(`${sha}`, 1, key, state)
            return pipeline.exec()
          }))
      )
    }))

  const alternately = Effect.fnUntraced(function*<E1, R1, E2, R2>(
    first: Effect.Effect<number, E1, R1>,
    second: Effect.Effect<number, E2, R2>
  ) {
    const pairs: Array<Pair> = []
    for (let round = -1; round < rounds; round++) {
      const pair = [yield* first, yield* second] as const
      if (round >= 0) pairs.push(pair)
    }
    return pairs
  })
  const medians = (pairs: ReadonlyArray<Pair>): Pair => [
    median(pairs.map(([ours]) => ours)),
    median(pairs.map(([, theirs]) => theirs))
  ]

  const pairs = yield* alternately(ours, theirs)
  const comparison = ratioOf(pairs)
  const { ratio } = comparison
  const [usec, usecReference] = medians(pairs)

  // Both once more, among ever more queries.
  const sizes = isQuick ? [1_000, 10_000] : [1_000, 100_000, 1_000_000]
  const among: Array<Pair> = []
  yield* Effect.promise(() => raw.flushall())
  let stored = 0
  for (const size of sizes) {
    for (; stored < size; stored += 10_000) {
      yield* store.compareAndSetMany(
        freshKeys(Math.min(10_000, size - stored)).map((key) => [key, { event: "Queue" }])
      )
    }
    stored = size
    among.push(medians(yield* alternately(ours, least)))
  }
  const growthOf = (times: ReadonlyArray<number>) => (times.at(-1) ?? Number.NaN) / (times[0] ?? Number.NaN)
  const [times, timesLeast] = [among.map(([ours]) => ours), among.map(([, least]) => least)]
  const [growth, growthLeast] = [growthOf(times), growthOf(timesLeast)]
  const grown = (times: ReadonlyArray<number>) =>
    `${times.map((usec) => usec.toFixed(1)).join(", ")} µs: ${show(growthOf(times))}`

  return [
    {
      name: "scriptTime",
      figures: { ...comparison, usec, usecReference },
      what: "a transition inside Redis, against FlowMachine's script",
      measured: `${show(ratio)} (${spread(comparison)}; ${usec.toFixed(1)} against ${usecReference.toFixed(1)} µs)`,
      toReach: "2.2 x or less",
      isReached: ratio <= 2.2
    },
    {
      name: "growth",
      figures: {
        ratio: growth / growthLeast,
        growth,
        growthLeast,
        ...Object.fromEntries(sizes.map((size, index) => [`usecAmong${size}`, times[index] ?? 0]))
      },
      what: `its growth among ${sizes.map(count).join(", ")} queries, against that of the least script`,
      measured: `${show(growth / growthLeast)} (${grown(times)}; the least script ${grown(timesLeast)})`,
      toReach: "1.1 x or less",
      isReached: growth <= 1.1 * growthLeast
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
