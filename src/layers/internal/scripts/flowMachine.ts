/**
 * What the scripts do where the state is FlowMachine's.
 *
 * KEYS are the state, the record, its history, and the hashes of all events. The record has the fields that it has
 * elsewhere, and holds as long as the state is the one that was written with it. Any other state was written by
 * FlowMachine: the first script that finds one gives the record that state, with a new version and no claim.
 */
import * as QueryEvent from "../../../domain/QueryEvent.ts"
import * as QueryState from "../../../domain/QueryState.ts"
import * as Transition from "../../../domain/Transition.ts"
import type { Dialect } from "./dialect.ts"
import type { History } from "./history.ts"
import { forever } from "./keep.ts"
import { checkVersionLeft, type Layout, moveTo, reply, unclaimed } from "./scripts.ts"

const stateKey = "KEYS[1]"
const historyKey = 3
const firstHashKey = 4

/** The edges of a dialect: none leads to a state that others could not read. */
const edgesOf = (dialect: Dialect): ReadonlyArray<Transition.Edge> =>
  Transition.edges.filter(({ to }) => dialect === "reset-failed" || to !== "ResetFailed")

// A purge whose holder died would leave a query of seven states Resetting for ever: the lifecycle leads from there only to
// Known, as if the purge had succeeded. Errored can be read by all, and reset again.
const lapsedPurge: Transition.Edge = { from: "Resetting", event: "Error", to: "Errored" }

/** What the hash of each event holds, as a Lua table: from-states and to-states alternately. */
const hashesOf = (dialect: Dialect): string => {
  const edges = edgesOf(dialect).filter(({ from }) => dialect === "reset-failed" || from !== "ResetFailed")
  const fieldsOf = (event: QueryEvent.QueryEvent) =>
    edges.filter((edge) => edge.event === event).flatMap(({ from, to }) => [from, to])
      .map((tag) => `"${QueryState.wireNames[tag]}"`)
  return `{\n${QueryEvent.all.map((event) => `    { ${fieldsOf(event).join(", ")} }`).join(",\n")}\n  }`
}

const states = `{ ${Object.values(QueryState.wireNames).map((name) => `${name} = true`).join(", ")} }`

const adopt = (history: Layout["history"]): string =>
  moveTo({ history }, {
    ...unclaimed,
    event: "nil",
    trace: "false",
    attempts: `to ~= "${QueryState.wireNames.Completed}" and attempts`
  }).replaceAll("\n", "\n  ")

export const layout = (dialect: Dialect, keep: History | undefined): Layout => {
  const history = keep === undefined ? undefined : { ...keep, key: historyKey }
  return {
    keyCount: firstHashKey - 1 + QueryEvent.all.length,
    recordKey: 2,
    history,
    edges: edgesOf(dialect),
    keep: forever,
    lapseEdges: dialect === "reset-failed" ? edgesOf(dialect) : [...edgesOf(dialect), lapsedPurge],
    // FlowMachine may have come back to the same state since, but its writes leave no time to live. A claimed state has one
    // that never ends, some 50,000 years off, and equals the version that was written with it.
    afterRead: `
local shared = call("GET", ${stateKey}) or "${QueryState.wireNames.Known}"
if not (${states})[shared] then
  state = shared
  ${reply}
end
-- Where a path or a lapse may move the query, a hash of a wrong type fails the script before anything is written.
local lengths = {}
if find(ARGV[2] or "", "%a") or (expiresAt and tonumber(expiresAt) <= nowMillis) then
  for index = ${firstHashKey}, #KEYS do lengths[index] = call("HLEN", KEYS[index]) end
end
if shared ~= (state or "${QueryState.wireNames.Known}")
  or ((holder or expiresAt) and call("PEXPIRETIME", ${stateKey}) ~= tonumber(version)) then
  ${checkVersionLeft.replaceAll("\n", "\n  ")}
  local to = shared
  ${adopt(history)}
end
local wasClaimed = holder or expiresAt
`,
    // FlowMachine never writes the hashes of a query that has a state, so missing ones are written here.
    afterWrite: `if state ~= shared then
  local hashes = ${hashesOf(dialect)}
  for index, fields in ipairs(hashes) do
    local place = index + ${firstHashKey - 1}
    if lengths[place] < #fields / 2 then call("HSET", KEYS[place], unpack(fields)) end
  end
  call("SET", ${stateKey}, state)
elseif wasClaimed and not (holder or expiresAt) then
  call("PERSIST", ${stateKey})
end
if holder or expiresAt then call("PEXPIREAT", ${stateKey}, version) end`
  }
}
