/**
 * Measures what the library costs, on this machine, beside what it is compared with:
 * `npm run bench [-- --quick] [--only GROUP] [--json FILE] [--charts FOLDER]`.
 */
import { Console, Effect } from "effect"
import { writeFile } from "node:fs/promises"
import { parseArgs } from "node:util"
import * as Charts from "./charts.ts"
import * as ClusterLoad from "./clusterLoad.ts"
import * as Idle from "./idle.ts"
import * as ManyQueries from "./manyQueries.ts"
import * as Memory from "./memory.ts"
import * as OneQuery from "./oneQuery.ts"
import * as Replicas from "./replicas.ts"
import { table } from "./Row.ts"
import * as RunOnce from "./runOnce.ts"
import * as ScriptTime from "./scriptTime.ts"
import * as Transitions from "./transitions.ts"
import * as WakeUp from "./wakeUp.ts"

const { values: { charts, json, only, quick } } = parseArgs({
  options: {
    charts: { type: "string" },
    json: { type: "string" },
    only: { type: "string" },
    quick: { type: "boolean", default: false }
  }
})

const groups = {
  wakeUp: WakeUp.rows,
  idle: Idle.rows,
  manyQueries: ManyQueries.rows,
  oneQuery: OneQuery.rows,
  transitions: Transitions.rows,
  scriptTime: ScriptTime.rows,
  memory: Memory.rows,
  replicas: Replicas.rows,
  runOnce: RunOnce.rows,
  cluster: ClusterLoad.rows
}

if (only !== undefined && !(only in groups)) {
  console.error(`There is no group ${only}. The groups are ${Object.keys(groups).join(", ")}`)
  process.exit(2)
}

const rows = await Effect.forEach(
  Object.entries(groups).filter(([name]) => only === undefined || only === name),
  ([name, rows]) => Effect.andThen(Console.error(`${name} …`), Effect.scoped(rows({ isQuick: quick })))
).pipe(
  Effect.map((rows) => rows.flat()),
  Effect.runPromise
)

console.log(table(rows))
const figures = Object.fromEntries(rows.map((row) => [row.name, row.figures]))
if (json !== undefined) await writeFile(json, `${JSON.stringify(figures, undefined, 2)}\n`)
if (charts !== undefined) await Charts.write(charts, figures)
