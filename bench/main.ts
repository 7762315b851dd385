/**
 * Measures what the library costs, on this machine, beside what it is compared with: `npm run bench [-- --quick]`.
 */
import { Console, Effect } from "effect"
import { parseArgs } from "node:util"
import * as Idle from "./idle.ts"
import * as ManyQueries from "./manyQueries.ts"
import * as Memory from "./memory.ts"
import * as OneQuery from "./oneQuery.ts"
import { table } from "./Row.ts"
import * as Transitions from "./transitions.ts"
import * as WakeUp from "./wakeUp.ts"

const { values: { only, quick } } = parseArgs({
  options: { only: { type: "string" }, quick: { type: "boolean", default: false } }
})

const groups = {
  wakeUp: WakeUp.rows,
  idle: Idle.rows,
  manyQueries: ManyQueries.rows,
  oneQuery: OneQuery.rows,
  transitions: Transitions.rows,
  memory: Memory.rows
}

await Effect.forEach(
  Object.entries(groups).filter(([name]) => only === undefined || only === name),
  ([name, rows]) => Effect.andThen(Console.error(`${name} …`), Effect.scoped(rows({ isQuick: quick })))
).pipe(
  Effect.flatMap((rows) => Console.log(table(rows.flat()))),
  Effect.runPromise
)
