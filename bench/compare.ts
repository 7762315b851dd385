/** Measures another build of the library alternately with this one, to show what a change does. */
import { Effect, Fiber } from "effect"
import { fileURLToPath } from "node:url"
import * as Build from "./build.ts"
import * as Child from "./child.ts"
import type { Order, Report } from "./compareProcess.ts"
import * as Fleet from "./fleet.ts"
import type { Row, Scale } from "./Row.ts"
import { Server } from "./Server.ts"
import { count, median, millis, type Pair, ratesOf, ratioOf, show, spread } from "./statistics.ts"

const here = fileURLToPath(new URL("..", import.meta.url))

// A change may cost this much.
const leastRate = 0.97
const mostTime = 1 / leastRate

export interface Options extends Scale {
  /** The folder of the other build, a checkout with `dist`. */
  readonly dir: string
}

/** Measures each of both sides, in the other order every second time. */
const alternately = Effect.fnUntraced(function*<A, E, R>(
  rounds: number,
  ours: Effect.Effect<A, E, R>,
  theirs: Effect.Effect<A, E, R>
) {
  const pairs: Array<readonly [ours: A, theirs: A]> = []
  for (let round = 0; round < rounds; round++) {
    if (round % 2 === 0) pairs.push([yield* ours, yield* theirs])
    else {
      const second = yield* theirs
      pairs.push([yield* ours, second])
    }
  }
  return pairs
})

/** Makes something with both builds, this one first. */
const ofBoth = <A, E, R>(dir: string, of: (tsconfig: string) => Effect.Effect<A, E, R>) =>
  Effect.all([Effect.flatMap(Build.tsconfigOf(here), of), Effect.flatMap(Build.tsconfigOf(dir), of)])

const start = Effect.fnUntraced(function*(tsconfig: string) {
  const { url } = yield* Server
  const child = yield* Child.start("compareProcess.ts", { args: [url], tsconfig })
  yield* Child.message(child)
  return child
})

let names = 0
const freshName = () => `compared ${names++}`

const wakeUp = Effect.fnUntraced(function*({ dir, isQuick }: Options) {
  let idle: Effect.Effect<void> = Effect.void
  const wakeUpOf = (tsconfig: string) =>
    Effect.map(Effect.all([start(tsconfig), start(tsconfig)]), ([waiter, completer]) =>
      Effect.gen(function*() {
        const name = freshName()
        yield* Child.ask(waiter, { what: "wait", name } satisfies Order)
        const woken = yield* Effect.forkChild(Child.message(waiter), { startImmediately: true })
        yield* Effect.suspend(() => idle)
        const begun = BigInt(yield* Child.ask(completer, { what: "complete", name } satisfies Order))
        return Number(BigInt(yield* Fiber.join(woken)) - begun) / 1e6
      }))
  const [ours, theirs] = yield* ofBoth(dir, wakeUpOf)
  yield* alternately(isQuick ? 300 : 3_000, ours, theirs)
  idle = Effect.sleep("5 millis")
  const pairs: ReadonlyArray<Pair> = yield* alternately(isQuick ? 100 : 1_000, ours, theirs)
  const [middle, middleOther] = [median(pairs.map(([ours]) => ours)), median(pairs.map(([, theirs]) => theirs))]
  // Single wake-ups differ by more than builds do, so medians are compared and not pairs.
  const ratio = middle / middleOther
  return [
    {
      name: "wakeUp",
      figures: { ratio, ours: middle, theirs: middleOther },
      what: "time of a wake-up in another process, from idle",
      measured: `${show(ratio)} (${spread(ratioOf(pairs))}; ${millis(middle)} against ${millis(middleOther)})`,
      toReach: `${show(mostTime)} or less`,
      isReached: ratio <= mostTime
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.scoped)

const transitions = Effect.fnUntraced(function*({ dir, isQuick }: Options) {
  const queries = isQuick ? 500 : 3_000
  const transitionsOf = (tsconfig: string) =>
    Effect.map(start(tsconfig), (child) =>
      Effect.map(
        Effect.suspend(() => Child.ask(child, { what: "transitions", name: freshName(), queries } satisfies Order)),
        (text): Report => JSON.parse(text)
      ))
  const [ours, theirs] = yield* ofBoth(dir, transitionsOf)
  yield* alternately(4, ours, theirs)
  const pairs = yield* alternately(isQuick ? 6 : 40, ours, theirs)
  const pairsOf = (figure: "millis" | "processor") =>
    pairs.map(([ours, theirs]): Pair => [ours[figure], theirs[figure]])
  const rates = ratesOf(pairsOf("millis"))
  const rateOf = ({ millis, transitions }: Report) => transitions * 1000 / millis
  const rate = median(pairs.map(([ours]) => rateOf(ours)))
  const rateOther = median(pairs.map(([, theirs]) => rateOf(theirs)))
  const processor = ratioOf(pairsOf("processor"))
  return [
    {
      name: "transitions",
      figures: { ...rates, ours: rate, theirs: rateOther },
      what: "transitions a second, 256 at a time",
      measured: `${show(rates.ratio)} (${spread(rates)}; ${count(rate)} against ${count(rateOther)})`,
      toReach: `${show(leastRate)} or more`,
      isReached: rates.ratio >= leastRate
    },
    {
      name: "transitionsProcessor",
      figures: { ...processor },
      what: "processor time of the client for each",
      measured: `${show(processor.ratio)} (${spread(processor)})`,
      toReach: `${show(mostTime)} or less`,
      isReached: processor.ratio <= mostTime
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.scoped)

const runOnce = Effect.fnUntraced(function*({ dir, isQuick }: Options) {
  const server = yield* Server
  const queries = isQuick ? 100 : 1_000
  const [ours, theirs] = yield* ofBoth(dir, (tsconfig) => Fleet.start("library", { queries, tsconfig }))
  yield* Fleet.warmUp(ours, theirs, isQuick ? 2 : 60)
  const pairs = yield* alternately(isQuick ? 4 : 20, ours.round, theirs.round)
  const commands = yield* server.monitor(ours.round)
  const commandsOther = yield* server.monitor(theirs.round)
  const runs = queries * Fleet.processes
  const isOnce = pairs.flat().every(({ isOnce }) => isOnce)
  const row = (name: string, what: string, unit: string, figure: "client" | "millis" | "server"): Row => {
    const { high, low, ours, ratio, theirs } = Fleet.compare(pairs, figure)
    return {
      name,
      figures: { ratio, low, high, ours, theirs },
      what,
      measured: `${show(ratio)} (${spread({ ratio, low, high })}; ${count(ours)} against ${count(theirs)} ${unit}${
        isOnce ? "" : "; NOT EXECUTED ONCE EACH"
      })`,
      toReach: `${show(mostTime)} or less`,
      isReached: isOnce && ratio <= mostTime
    }
  }
  return [
    row(
      "runOnce",
      `time of ${count(queries)} queries run once or joined by ${Fleet.processes} processes, warm`,
      "ms",
      "millis"
    ),
    row("runOnceClient", "processor time of the client for each", "µs", "client"),
    row("runOnceServer", "processor time of the server for each", "µs", "server"),
    {
      name: "runOnceCommands",
      figures: { ours: commands.sent / runs, theirs: commandsOther.sent / runs },
      what: "commands that clients send for each",
      measured: `${show(commands.sent / commandsOther.sent)} (${(commands.sent / runs).toFixed(1)} against ${
        (commandsOther.sent / runs).toFixed(1)
      })`,
      toReach: ""
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.scoped)

const withServer = <A, E>(rows: (options: Options) => Effect.Effect<A, E, Server>) => (options: Options) =>
  Effect.provide(rows(options), Server.layer, { local: true })

export const groups = {
  wakeUp: withServer(wakeUp),
  transitions: withServer(transitions),
  runOnce: withServer(runOnce)
}
