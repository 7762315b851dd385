/**
 * Lets many clients loose on a Redis that keeps breaking, for as long as is wanted, and checks that all they are told can be
 * true: `npm run soak -- [--minutes 5] [--seed 1]`. Ctrl+C ends it after the round at hand.
 */
import { Effect } from "effect"
import { parseArgs } from "node:util"
import { runChaos } from "../support/Chaos.ts"

const { values } = parseArgs({
  options: { minutes: { type: "string", default: "5" }, seed: { type: "string", default: `${Date.now() % 1_000_000}` } }
})
const minutes = Number(values.minutes)
const firstSeed = Number(values.seed)
if (!(minutes > 0) || !Number.isSafeInteger(firstSeed)) {
  console.error("--minutes must be a number above zero, and --seed a whole number")
  process.exit(2)
}

// The longer a round, the longer the log that its answers are compared with.
const roundSeconds = Math.min(10, minutes * 60)

const counts = new Map<string, number>()
const add = (what: string, count: number) => counts.set(what, (counts.get(what) ?? 0) + count)

const ended = new AbortController()
process.once("SIGINT", () => ended.abort())

const until = performance.now() + minutes * 60_000
let seed = firstSeed
const violations: Array<string> = []
console.log(`soak: ${minutes} minutes, from seed ${firstSeed} on`)

while (!ended.signal.aborted && performance.now() < until) {
  // oxlint-disable-next-line no-await-in-loop -- a round has the machine for itself
  const report = await Effect.runPromise(runChaos({ seed, duration: `${roundSeconds} seconds` }))
  add("rounds", 1)
  add("operations", report.entries.length)
  add("of them without an answer", report.entries.filter(({ told }) => told._tag === "Unknown").length)
  add("transitions", report.changes)
  add("waits", report.waits)
  add("of them ended by an outcome", report.wakes)
  for (const [fault, count] of Object.entries(report.faults)) add(`fault: ${fault}`, count)
  for (const violation of report.violations) {
    violations.push(violation)
    console.error(`violation in the round with seed ${seed}: ${violation}`)
  }
  seed += 1
}
add("violations", violations.length)

const width = Math.max(...Array.from(counts.keys(), (what) => what.length))
for (const [what, count] of counts) console.log(`${what.padEnd(width)}  ${count.toLocaleString("en").padStart(12)}`)
process.exitCode = violations.length === 0 ? 0 : 1
