/**
 * Lets worker processes run while connections and servers break, for a given time, and prints a summary:
 * `npm run soak -- --minutes 15 --seed 7`. Exits with code 1 if an answer was wrong.
 */
import { Clock, Deferred, Effect, Random } from "effect"
import { parseArgs } from "node:util"
import * as Chaos from "../support/chaos/Chaos.ts"
import * as Processes from "./processes.ts"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string", default: `${Date.now() % 2 ** 31}` }
  }
})
const minutes = Number(values.minutes)
const seed = Number(values.seed)
if (!(minutes > 0 && minutes < 30_000) || !Number.isSafeInteger(seed)) {
  console.error("Usage: npm run soak -- [--minutes N] [--seed S], with N greater than 0 and S a whole number")
  process.exit(2)
}

// Queries are new in each round, so that what is known of the old ones can be checked and forgotten.
const roundMillis = 10_000

const total = { rounds: 0, operations: 0, changes: 0, runs: 0, waits: 0, wakes: 0 }
const faults: Record<string, number> = {}
const violations: Array<string> = []

const add = (
  report: { readonly faults: Readonly<Record<string, number>>; readonly violations: ReadonlyArray<string> }
) => {
  for (const [kind, count] of Object.entries(report.faults)) faults[kind] = (faults[kind] ?? 0) + count
  for (const violation of report.violations) {
    violations.push(violation)
    console.error(`round ${total.rounds}: ${violation}`)
  }
}

const soak = (stop: Deferred.Deferred<void>) =>
  Effect.gen(function*() {
    const end = (yield* Clock.currentTimeMillis) + minutes * 60_000
    const world = yield* Chaos.makeWorld
    const crew = yield* Processes.spawn(world)
    while (!(yield* Deferred.isDone(stop))) {
      const left = end - (yield* Clock.currentTimeMillis)
      if (left <= 0) break
      const over = yield* Deferred.make<void>()
      yield* Effect.forkChild(
        Deferred.await(stop).pipe(
          Effect.timeoutOrElse({ duration: Math.min(roundMillis, left), orElse: () => Effect.void }),
          Effect.andThen(Deferred.succeed(over, undefined))
        )
      )
      const [clients, processes] = yield* Effect.all([Chaos.play(world, over), Processes.play(world, crew, over)], {
        concurrency: "unbounded"
      })
      total.rounds += 1
      total.operations += clients.entries.length
      total.changes += clients.changes
      total.runs += processes.runs
      total.waits += clients.waits
      total.wakes += clients.wakes
      add(clients)
      add(processes)
    }
  }).pipe(Random.withSeed(seed), Effect.scoped)

const printTable = () => {
  const byKind = Object.entries(faults).toSorted(([left], [right]) => left.localeCompare(right))
  const rows = [
    ["operations", total.operations],
    ["changes", total.changes],
    ["runs given to processes", total.runs],
    ["waits", total.waits],
    ["wakes", total.wakes],
    ["faults", byKind.reduce((sum, [, count]) => sum + count, 0)],
    ...byKind.map(([kind, count]) => [`  ${kind}`, count] as const),
    ["violations", violations.length]
  ] as const
  for (const [what, count] of rows) console.log(what.padEnd(26) + count.toLocaleString("en").padStart(10))
}

const stop = Deferred.makeUnsafe<void>()
// Only once: a second Ctrl-C ends it at once.
process.once("SIGINT", () => Effect.runFork(Deferred.succeed(stop, undefined)))

console.log(`Soaking for ${minutes} minutes, with seed ${seed}`)
await Effect.runPromise(soak(stop))
printTable()
process.exitCode = violations.length === 0 ? 0 : 1
