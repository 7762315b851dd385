/** How long a transition takes inside Redis, compared with the reference's script, and whether that grows with the queries. */
import { Effect } from "effect"
import { RedisStore } from "effect-query-state"
import { freshKeys } from "./alternate.ts"
import * as Reference from "./reference.ts"
import type { Row, Scale } from "./Row.ts"
import { Server, StoreLayer } from "./Server.ts"
import { count, median, ratioOf, show } from "./statistics.ts"

const steps = [["Queue", {}], ["Execute", { lease: "30 seconds", holder: "bench:1" }], ["Finish", {}]] as const
const referenceSteps = ["QUEUE", "EXECUTE", "FINISH"] as const

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const { raw } = yield* Server
  const store = yield* RedisStore.RedisStore
  const queries = isQuick ? 500 : 5_000
  const rounds = isQuick ? 3 : 11

  /** Microseconds a call, by the count of Redis itself. */
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
      Effect.forEach(steps, ([event, options]) =>
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
      usecOf("eval", Effect.forEach(referenceSteps, (event) => all((key) => Reference.trigger(raw, key, event))))
    )
  })

  const pairs: Array<readonly [number, number]> = []
  for (let round = -1; round < rounds; round++) {
    const pair = [yield* ours, yield* theirs] as const
    if (round >= 0) pairs.push(pair)
  }
  const { high, low, ratio } = ratioOf(pairs)
  const usec = median(pairs.map(([ours]) => ours))
  const usecReference = median(pairs.map(([, theirs]) => theirs))

  // The same once more, among ever more queries.
  const sizes = isQuick ? [1_000, 10_000] : [1_000, 100_000, 1_000_000]
  const among: Array<number> = []
  yield* Effect.promise(() => raw.flushall())
  let stored = 0
  for (const size of sizes) {
    for (; stored < size; stored += 10_000) {
      yield* store.compareAndSetMany(
        freshKeys(Math.min(10_000, size - stored)).map((key) => [key, { event: "Queue" }])
      )
    }
    stored = size
    const samples: Array<number> = []
    for (let round = -1; round < rounds; round++) {
      const sample = yield* ours
      if (round >= 0) samples.push(sample)
    }
    among.push(median(samples))
  }
  const growth = (among.at(-1) ?? Number.NaN) / (among[0] ?? Number.NaN)

  return [
    {
      name: "scriptTime",
      figures: { ratio, low, high, usec, usecReference },
      what: "time of a transition inside Redis, against the reference's script",
      measured: `${show(ratio)} (${usec.toFixed(1)} against ${usecReference.toFixed(1)} µs)`,
      toReach: "at most 2.5 x",
      met: ratio <= 2.5
    },
    {
      name: "growth",
      figures: { growth, ...Object.fromEntries(sizes.map((size, index) => [`usecAmong${size}`, among[index] ?? 0])) },
      what: `the same among ${sizes.map(count).join(", ")} queries`,
      measured: `${among.map((usec) => usec.toFixed(1)).join(", ")} µs: ${show(growth)}`,
      toReach: "at most 1.1 x",
      met: growth <= 1.1
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))
