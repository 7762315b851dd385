/**
 * What the scripts do besides where the state is FlowMachine's.
 *
 * KEYS are the state, the record, its history, and, for those scripts that move a query on, the hashes of all events. The record has
 * the fields that it has elsewhere, and holds as long as the state is the one that was written with it. A state that is not
 * was moved by FlowMachine: it becomes a record of its own, with a new version and no claim, as soon as anybody here looks.
 */
import * as QueryEvent from "../../../domain/QueryEvent.ts"
import * as QueryState from "../../../domain/QueryState.ts"
import * as Transition from "../../../domain/Transition.ts"
import type { Dialect } from "./dialect.ts"
import { answer, outcomes, table, unclaimed, type Variant } from "./scripts.ts"

const known = QueryState.wireNames.Known

const states = table(Object.values(QueryState.wireNames).map((name) => [name, name]))

/** The steps that are taken: where a state could not be read by others, none leads there. */
const edgesOf = (dialect: Dialect): ReadonlyArray<Transition.Edge> =>
  Transition.edges.filter(({ to }) => dialect === "reset-failed" || to !== "ResetFailed")

/** What the hashes of a query hold: field and value in turns, for each event. */
const hashesOf = (dialect: Dialect): string => {
  const edges = edgesOf(dialect).filter(({ from }) => dialect === "reset-failed" || from !== "ResetFailed")
  const fieldsOf = (event: QueryEvent.QueryEvent) =>
    edges.filter((edge) => edge.event === event).flatMap(({ from, to }) => [from, to])
      .map((tag) => `"${QueryState.wireNames[tag]}"`)
  return `{ ${QueryEvent.all.map((event) => `{ ${fieldsOf(event).join(", ")} }`).join(", ")} }`
}

export const variant = (dialect: Dialect): Variant => ({
  recordKey: 2,
  edges: edgesOf(dialect),
  onRead: `
local state = redis.call("GET", KEYS[1]) or "${known}"
-- Left alone, and answered as it is.
if not (${states})[state] then
  s = state
  ${answer(outcomes.refused)}
end
`,
  // FlowMachine may have come back to the same state since. What it writes has no time to live; a claimed state has one
  // that is never over, some 50,000 years off, and tells the version that it was written with.
  onSettle: (move) => `
if state ~= (s or "${known}") or ((h or x) and redis.call("PEXPIRETIME", KEYS[1]) ~= tonumber(v)) then
  ${move({ ...unclaimed, to: "state", event: "nil", trace: "false", isLapse: false })}
end`,
  // FlowMachine never writes the hashes of a query that has a state. Those that it left out are made up for.
  onMove: `
  if to ~= state then
    for index, fields in ipairs(${hashesOf(dialect)}) do
      local hash = KEYS[index + 3]
      if hash and redis.call("HLEN", hash) < #fields / 2 then redis.call("HSET", hash, unpack(fields)) end
    end
  end`,
  onMoved: `
  if to == state then redis.call("PERSIST", KEYS[1]) else redis.call("SET", KEYS[1], to) end
  if h or x then redis.call("PEXPIREAT", KEYS[1], v) end
  state = to
`,
  // Nobody here claimed what nobody here wrote.
  onRenew: `
if o == "" then ${answer(outcomes.leaseLost)} end
redis.call("PEXPIREAT", KEYS[1], v)`
})
