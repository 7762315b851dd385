/**
 * Measures what the library costs on this machine, beside alternatives:
 * `npm run bench [-- --quick] [--only GROUP] [--markdown] [--json FILE] [--charts FOLDER]`.
 *
 * `-- --compare DIR [--only GROUP]` measures another build of the library, in the `dist` of a checkout, beside this one.
 */
import { Console, Effect } from "effect"
import { writeFile } from "node:fs/promises"
import { parseArgs } from "node:util"
import * as Build from "./build.ts"
import * as Charts from "./charts.ts"
import * as ClusterLoad from "./clusterLoad.ts"
import * as Compare from "./compare.ts"
import * as Idle from "./idle.ts"
import * as ManyQueries from "./manyQueries.ts"
import * as Memory from "./memory.ts"
import * as OneQuery from "./oneQuery.ts"
import * as Replicas from "./replicas.ts"
import { markdown, type Row, table } from "./Row.ts"
import * as RunOnce from "./runOnce.ts"
import * as ScriptTime from "./scriptTime.ts"
import * as Transitions from "./transitions.ts"
import * as WakeUp from "./wakeUp.ts"

const { values: options } = parseArgs({
  options: {
    charts: { type: "string" },
    compare: { type: "string" },
    json: { type: "string" },
    markdown: { type: "boolean", default: false },
    only: { type: "string" },
    quick: { type: "boolean", default: false }
  }
})

type Group = Effect.Effect<ReadonlyArray<Row>, unknown>

const scale = { isQuick: options.quick }
const groupsOf = (dir: string | undefined): Readonly<Record<string, Group>> => {
  if (dir !== undefined) {
    const compared = { ...scale, dir }
    return {
      wakeUp: Compare.groups.wakeUp(compared),
      transitions: Compare.groups.transitions(compared),
      runOnce: Compare.groups.runOnce(compared)
    }
  }
  return {
    wakeUp: Effect.scoped(WakeUp.rows(scale)),
    idle: Effect.scoped(Idle.rows(scale)),
    manyQueries: Effect.scoped(ManyQueries.rows(scale)),
    oneQuery: Effect.scoped(OneQuery.rows(scale)),
    transitions: Effect.scoped(Transitions.rows(scale)),
    scriptTime: Effect.scoped(ScriptTime.rows(scale)),
    memory: Effect.scoped(Memory.rows(scale)),
    replicas: Effect.scoped(Replicas.rows(scale)),
    runOnce: Effect.scoped(RunOnce.rows(scale)),
    cluster: Effect.scoped(ClusterLoad.rows(scale))
  }
}

const groups = groupsOf(options.compare)
if (options.only !== undefined && !(options.only in groups)) {
  console.error(`There is no group ${options.only}. The groups are ${Object.keys(groups).join(", ")}`)
  process.exit(2)
}

if (options.compare !== undefined && !Build.isThere(options.compare)) {
  console.error(`${options.compare} has no build: run \`npm run build\` there`)
  process.exit(2)
}

const rows = await Effect.forEach(
  Object.entries(groups).filter(([name]) => options.only === undefined || options.only === name),
  ([name, group]) => Effect.andThen(Console.error(`${name} …`), group)
).pipe(
  Effect.map((rows) => rows.flat()),
  Effect.runPromise
)

console.log(options.markdown ? markdown(rows) : table(rows))
const figures = Object.fromEntries(rows.map((row) => [row.name, row.figures]))
if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify(figures, undefined, 2)}\n`)
if (options.charts !== undefined) await Charts.write(options.charts, figures)
