/** Eight processes that want the results of a thousand queries, each of which is to be executed once. */
import { Effect } from "effect"
import * as Child from "./child.ts"
import type { Row, Scale } from "./Row.ts"
import type { Report, With } from "./runOnceProcess.ts"
import { Server } from "./Server.ts"
import { median, type Pair, ratioOf, show } from "./statistics.ts"

const processes = 8

interface Round {
  readonly millis: number
  readonly executed: number
  readonly results: number
}

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const { url } = yield* Server
  const queries = isQuick ? 100 : 1_000

  const round = Effect.fnUntraced(function*(what: With, round: number) {
    const children = yield* Effect.replicateEffect(
      Child.start("runOnceProcess.ts", { args: [url, what, `${what}-${round}`, `${queries}`] }),
      processes
    )
    yield* Effect.forEach(children, Child.message, { concurrency: "unbounded" })
    const begun = performance.now()
    const ends = Effect.forEach(children, Child.message, { concurrency: "unbounded" })
    children.forEach((child) => child.send("go"))
    const reports = (yield* ends).map((text): Report => JSON.parse(text))
    const sumOf = (what: keyof Report) => reports.reduce((sum, report) => sum + report[what], 0)
    return {
      millis: performance.now() - begun,
      executed: sumOf("executed"),
      results: sumOf("results")
    } satisfies Round
  }, Effect.scoped)

  const ours: Array<Round> = []
  const bulls: Array<Round> = []
  for (let index = 0; index < (isQuick ? 1 : 5); index++) {
    ours.push(yield* round("library", index))
    bulls.push(yield* round("bull", index))
  }
  const millisOf = (rounds: ReadonlyArray<Round>) => median(rounds.map(({ millis }) => millis))
  const { ratio } = ratioOf(ours.map(({ millis }, index): Pair => [millis, bulls[index]?.millis ?? Number.NaN]))
  const isOnce = ours.every(({ executed, results }) => executed === queries && results === processes * queries)
  return [
    {
      name: "runOnce",
      figures: { ratio, millis: millisOf(ours), millisBull: millisOf(bulls) },
      what: `${
        queries.toLocaleString("en")
      } queries run once or joined by ${processes} processes, against BullMQ with job ids`,
      measured: `${show(ratio)} (${millisOf(ours).toFixed(0)} against ${millisOf(bulls).toFixed(0)} ms; ${
        isOnce ? "each executed once" : "NOT EXECUTED ONCE EACH"
      })`,
      toReach: "below 1 x",
      met: isOnce && ratio < 1
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(Server.layer, { local: true }))
