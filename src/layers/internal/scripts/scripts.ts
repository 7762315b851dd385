/**
 * The scripts that run inside Redis, each above what it takes and what it replies.
 *
 * A record is one hash with these fields; those that do not apply are absent:
 *
 *     s  state, by its wire name        o  operation that wrote this version; empty after a lapse
 *     v  version                        h  holder of the claim
 *     t  time of the change in ms,      x  when its lease lapses, in ms
 *        unless v tells it              r  reason, as JSON
 *     p  progress, as JSON              c  traceparent of the last claim
 *     a  attempts, if there are any     e  when the record expires, in ms
 *     w  queries that the holder waits for, as JSON
 *     l  label, which no transition takes off
 *
 * Every script replies `{ outcome, now in µs, s, v, t, h, x, r, a, before, p, c, e, w, l }`: the record afterwards, with `false`
 * for what is absent, and without the last ones where all of them are. `before` tells where the record stood if it has moved:
 * `<state> <version> <1 if a lease lapsed, else 0>`. However many transitions a script makes, it writes and publishes once.
 *
 * A notification is the record. It is published on the channel with the name of the record's key, when the record has moved
 * and when progress is reported: `<version> <state>`, and where there is more, a line each for t, x, r, p, c, a, e, w, l and h. An
 * absent field is an empty line. The holder comes last, since it may hold line breaks.
 *
 * What runs left behind is in a hash of its own, the last of KEYS where a command has to do with it: s is what the last success
 * left, at version sv, and f what the last failure left, at version fv.
 *
 * The scripts hold no Lua functions: defining the six that there once were took a quarter of the time of a script
 * (benchmark row `scriptTime`). What two scripts share is written once here, and appears in the text of both.
 */
import * as Duration from "effect/Duration"
import * as QueryEvent from "../../../domain/QueryEvent.ts"
import * as QueryState from "../../../domain/QueryState.ts"
import * as Transition from "../../../domain/Transition.ts"
import { knownTimeToLive } from "../../../services/RedisStore.ts"
import type { History } from "./history.ts"
import type { Keep } from "./keep.ts"
import { interruptedJson } from "./reasonJson.ts"

/** The command that publishes; in a cluster a notification goes to the clients of the server that has the key. */
export type Publish = "PUBLISH" | "SPUBLISH"

export const outcomes = { changed: 1, refused: 0, leaseLost: -1, unknown: -2, lastVersion: -3, late: -4 } as const

const hasOutcome = (outcome: number) => (reply: unknown): boolean =>
  Array.isArray(reply) && Number(reply[0]) === outcome

/** Checks whether a reply tells that the command changed the record. */
export const isChanged = hasOutcome(outcomes.changed)

/** Checks whether a reply tells that the command came after its deadline, and was not carried out. */
export const isLate = hasOutcome(outcomes.late)

/** Where a query is kept, as far as the scripts depend on it. */
export interface Layout {
  /** How many keys every script is given. */
  readonly keyCount: number
  /** Place of the record among KEYS. */
  readonly recordKey: number
  /** Place of the history among KEYS, where one is kept. */
  readonly history?: History & { readonly key: number } | undefined
  /** The lifecycle that the scripts follow. */
  readonly edges: ReadonlyArray<Transition.Edge>
  /** Where the lapse of a lease leads. */
  readonly lapseEdges: ReadonlyArray<Transition.Edge>
  /** For how long records are kept. */
  readonly keep: Keep
  /** Lua that runs once the record was read. */
  readonly afterRead: string
  /** Lua that runs once the record was written. */
  readonly afterWrite: string
}

/** Layout of a record that is all there is of a query. */
export const recordLayout = (history: History | undefined, keep: Keep): Layout => ({
  keyCount: history === undefined ? 1 : 2,
  recordKey: 1,
  history: history === undefined ? undefined : { ...history, key: 2 },
  edges: Transition.edges,
  lapseEdges: Transition.edges,
  keep,
  afterRead: "",
  afterWrite: ""
})

const wire = QueryState.wireNames
const known = wire.Known

// What frees a query, or keeps its claim, must work even when Redis has reached its maxmemory.
const header = { claims: "#!lua", frees: "#!lua flags=allow-oom" }

/** Indents all lines but the first, to where the text is inserted. */
const indent = (lua: string, width: number): string => lua.replaceAll("\n", `\n${" ".repeat(width)}`)

/** Lua that does one thing or another, by which condition holds. */
const choose = (cases: ReadonlyArray<readonly [condition: string, lua: string]>): string =>
  `${cases.map(([condition, lua]) => `if ${condition} then\n  ${indent(lua, 2)}`).join("\nelse")}\nend`

const anyOf = (local: string, tags: ReadonlyArray<QueryState.Tag>): string =>
  tags.map((tag) => `${local} == "${wire[tag]}"`).join(" or ")

const pendingTags = QueryState.tags.filter((tag) => QueryState.isPending(QueryState.make(tag)))
const failedTags = QueryState.tags.filter((tag) => "reason" in QueryState.make(tag))

/** Lua that replies with the record. */
export const reply =
  `return { outcome, now, state, version, changedAt, holder, expiresAt, reason, attempts, before, progress, trace, keptUntil, waitsFor, label }`

const entry = ({ key, length, retentionMillis }: NonNullable<Layout["history"]>): string =>
  `-- People read a history: it must not fail what is written.
local entry = { "s", to, "v", version, "t", format("%.0f", nowMillis), "f", from }
if event then entry[#entry + 1], entry[#entry + 2] = "e", event end
if by then entry[#entry + 1], entry[#entry + 2] = "h", by end
if reason then entry[#entry + 1], entry[#entry + 2] = "r", reason end
redis.pcall("XADD", KEYS[${key}], "MAXLEN", ${length}, "*", unpack(entry))
redis.pcall("PEXPIRE", KEYS[${key}], ${retentionMillis})`

/** The locals that a transition sets, each as Lua: `nil` or `false` for what the record does not have afterwards. */
interface Transit {
  readonly event: string
  readonly operation: string
  readonly holder: string
  readonly expiresAt: string
  readonly reason: string
  readonly trace: string
  readonly attempts: string
  readonly isLapse: boolean
}

/** A transition that nobody asked for, and which ends the claim. */
export const unclaimed = {
  operation: `""`,
  holder: "false",
  expiresAt: "false",
  reason: "false",
  trace: "trace",
  attempts: "attempts",
  isLapse: false
}

/** Lua that moves the record, as the locals have it, to the state `to`. */
export const moveTo = (
  { history }: Pick<Layout, "history">,
  { attempts, event, expiresAt, holder, isLapse, operation, reason, trace }: Transit
): string => {
  const before = `(state or "${known}") .. " " .. (version or 0) .. " ${isLapse ? 1 : 0}"`
  const move = `before = ${isLapse ? before : `before or ${before}`}
local micros = version and tonumber(version) >= now and tonumber(version) + 1 or now
version, operation = format("%.0f", micros), ${operation}
changedAt = floor(micros / 1000) ~= nowMillis and format("%.0f", nowMillis)
expiresAt, reason, progress, trace = ${expiresAt}, ${reason}, false, ${trace}
attempts, keptUntil, waitsFor = ${attempts}, false, false`
  return history === undefined
    ? `${move}\nstate, holder = to, ${holder}`
    : `local event, from, by = ${event}, state or "${known}", ${holder} or holder
${move}
state, holder = to, ${holder}
${entry(history)}`
}

/** Lua that writes the record, as the locals have it. */
const write = ({ afterWrite }: Layout): string =>
  `if hasOptional then call("HDEL", key, "t", "h", "x", "r", "p", "c", "a", "e", "w") end
if storedState == "${known}" or isStoredKept then call("PERSIST", key) end
local fields = { "s", state, "v", version, "o", operation }
if changedAt then fields[7], fields[8] = "t", changedAt end
if holder then fields[#fields + 1], fields[#fields + 2] = "h", holder end
if expiresAt then fields[#fields + 1], fields[#fields + 2] = "x", expiresAt end
if reason then fields[#fields + 1], fields[#fields + 2] = "r", reason end
if trace then fields[#fields + 1], fields[#fields + 2] = "c", trace end
if newLabel then fields[#fields + 1], fields[#fields + 2] = "l", newLabel end
if attempts then fields[#fields + 1], fields[#fields + 2] = "a", attempts end
if keptUntil then fields[#fields + 1], fields[#fields + 2] = "e", keptUntil end
call("HSET", key, unpack(fields))
if keptUntil then call("PEXPIREAT", key, keptUntil) end
if state == "${known}" then call("PEXPIRE", key, ${Duration.toMillis(knownTimeToLive)}) end${
    afterWrite === "" ? "" : `\n${afterWrite}`
  }`

/** Lua that publishes the record, as the locals have it. */
const publishRecord = (publish: Publish): string =>
  `local message = version .. " " .. state
if changedAt or expiresAt or reason or progress or trace or attempts or keptUntil or waitsFor or label
  or holder then
  message = message .. "\\n" .. table.concat({
    changedAt or "", expiresAt or "", reason or "", progress or "", trace or "",
    attempts or "", keptUntil or "", waitsFor or "", label or "", holder or ""
  }, "\\n")
end
-- A notification must not fail what is written.
redis.pcall("${publish}", key, message)`

/** Lua, by the state, for the event that ends a claim whose lease has lapsed, and where that leads. */
const lapses = (edges: ReadonlyArray<Transition.Edge>) => {
  const eventOf: { readonly [S in QueryState.Tag]?: QueryEvent.QueryEvent } = Transition.lapseEvents
  return edges.filter(({ event, from }) => eventOf[from] === event).map(({ event, from, to }) =>
    [`state == "${wire[from]}"`, `event, to = "${QueryEvent.wireNames[event]}", "${wire[to]}"`] as const
  )
}

/** Lua that sets `to` to where `event` leads from a state; states that lead to the same share a branch. */
const targets = (edges: ReadonlyArray<Transition.Edge>): string => {
  const tagsByCases = new Map<string, Array<QueryState.Tag>>()
  for (const tag of QueryState.tags) {
    const cases = edges.filter(({ from }) => from === tag).map(({ event, to }) =>
      [`event == "${QueryEvent.wireNames[event]}"`, `to = "${wire[to]}"`] as const
    )
    if (cases.length === 0) continue
    const lua = choose(cases)
    tagsByCases.set(lua, [...tagsByCases.get(lua) ?? [], tag])
  }
  return choose(Array.from(tagsByCases, ([lua, tags]) => [anyOf("from", tags), lua]))
}

/**
 * Largest version in µs, and largest time in ms, that a record can have: as far as a Date of JavaScript reaches. All numbers
 * up to there are exact. They are written with "%.0f", since Lua prints large numbers with an exponent.
 */
export const maxNumber = 8_640_000_000_000_000

/** Lua that leaves a record alone which has the last version of all: none is left for a transition. */
export const checkVersionLeft = `if version and tonumber(version) >= ${maxNumber} then
  outcome = ${outcomes.lastVersion}
  ${reply}
end`

const isWhole = (local: string) => `(not find(${local}, "%D") and (tonumber(${local}) or 1 / 0) <= ${maxNumber})`

/** Begins every script: reads the record, and settles its lease if that has lapsed. */
const begin = (layout: Layout): string =>
  `local call, key, find, format, floor = redis.call, KEYS[${layout.recordKey}], string.find, string.format, math.floor
local time = call("TIME")
local now = time[1] * 1000000 + time[2]
local nowMillis = floor(now / 1000)

local state, version, changedAt, holder, expiresAt, reason, progress, trace, operation, attempts, keptUntil, waitsFor,
  label = unpack(call("HMGET", key, "s", "v", "t", "h", "x", "r", "p", "c", "o", "a", "e", "w", "l"))
local storedState, isStoredKept = state, keptUntil
local hasOptional = changedAt or holder or expiresAt or reason or progress or trace or attempts or keptUntil or waitsFor
local outcome, before, isReported, keepMillis, newLabel, results = ${outcomes.refused}, false, false, false, false, false

-- A record that cannot be right is left alone, and replied as it is.
if (state or version) and not (state and version
  and ${isWhole("version")}
  and (not changedAt or ${isWhole("changedAt")})
  and (not expiresAt or (${anyOf("state", pendingTags)}) and ${isWhole("expiresAt")})
  and (not attempts or ${isWhole("attempts")})
  and (not keptUntil or not (${anyOf("state", pendingTags)}) and ${isWhole("keptUntil")})) then
  ${reply}
end
-- Redis deletes it in the next millisecond, and not at all where another program took its expiry off.
if keptUntil and tonumber(keptUntil) <= nowMillis then
  state, version, changedAt, holder, expiresAt, reason = false, false, false, false, false, false
  progress, trace, operation, attempts, keptUntil, waitsFor, label = false, false, false, false, false, false, false
end
${layout.afterRead}
if expiresAt and tonumber(expiresAt) <= nowMillis then
  local event, to
  ${indent(choose(lapses(layout.lapseEdges)), 2)}
  if event then
    ${indent(checkVersionLeft, 4)}
    ${
    indent(
      moveTo(layout, {
        ...unclaimed,
        event: "event",
        reason: `cjson.encode({ _tag = "LeaseExpired", holder = holder or nil })`,
        // What `Transition.attemptsAfterLapse` does.
        attempts: `state == "${wire.Resetting}" and format("%.0f", (attempts or 0) + 1) or attempts`,
        isLapse: true
      }),
      4
    )
  }
  end
end`

/** Lua for what a record is given in which a script leaves a query. */
const rest = ({ keep }: Layout): string => {
  const cases = QueryState.tags.flatMap((tag) => {
    const millis = keep[tag]
    return millis === undefined ? [] : [[`state == "${wire[tag]}"`, `keepMillis = ${millis}`] as const]
  })
  return `if state == "${known}" then attempts = false end
${
    cases.length === 0
      ? ""
      : `if not keepMillis then\n  ${indent(choose(cases), 2)}\nend\n`
  }if keepMillis then keptUntil = format("%.0f", nowMillis + keepMillis) end`
}

/** Ends every script. */
const end = (publish: Publish, layout: Layout, beforeWrite = ""): string =>
  `if before then
  ${indent(rest(layout), 2)}${beforeWrite === "" ? "" : `\n  ${indent(beforeWrite, 2)}`}
  ${indent(write(layout), 2)}
end
if before or isReported then
  ${indent(publishRecord(publish), 2)}
end
if results then
  return { outcome, now, state, version, changedAt, holder, expiresAt, reason, attempts, before, progress, trace, keptUntil,
    waitsFor, label, results }
end
-- Most records have less, and every field costs the client a step of its parser.
if not (progress or trace or keptUntil or waitsFor or label) then
  if before or attempts then
    return { outcome, now, state, version, changedAt, holder, expiresAt, reason, attempts, before }
  end
  return { outcome, now, state, version, changedAt, holder, expiresAt, reason }
end
${reply}
`

/** Lua that does what `Transition.attemptsAfter` does. */
const countAttempts = `if event == "${QueryEvent.wireNames.Execute}" then
  attempts = format("%.0f", (attempts or 0) + 1)
elseif event == "${QueryEvent.wireNames.Finish}" then
  attempts = false
elseif event == "${QueryEvent.wireNames.Cancel}" and state == "${wire.Executing}"
  and newReason == '${interruptedJson}' and attempts then
  attempts = tonumber(attempts) > 1 and format("%.0f", attempts - 1)
end`

const compareAndSet = (layout: Layout): string =>
  `local id, path, deadline, since, fence, lease, newHolder, newReason, traceparent, ifVersion, timeToLive,
  givenLabel, action = unpack(ARGV)
local resultKey = action and KEYS[${layout.keyCount + 1}]
if operation == id then
  -- Sent again because the reply was lost: this version is its own work. It is written again, so that a WAIT on this
  -- connection waits for a write of this connection.
  call("HSET", key, "o", id)
  outcome = ${outcomes.changed}
elseif deadline and deadline ~= "" and now > tonumber(deadline) then
  -- Whoever sent it has given it up, or a clock was set. The query may have come full circle since it was sent.
  outcome = since and since ~= "" and ${outcomes.unknown} or ${outcomes.late}
elseif fence ~= version and since and since ~= ""
  and (tonumber(version) or fence and fence ~= "" and 1 / 0 or 0) > tonumber(since) then
  -- Sent again, and the query has moved since it was first sent, perhaps by this very command, and then by others. They
  -- may have moved it back to where the command would be accepted once more. A claimed record that is gone may have
  -- been given its outcome by this very command, and have expired.
  outcome = ${outcomes.unknown}
elseif fence and fence ~= "" and fence ~= version then
  outcome = ${outcomes.leaseLost}
elseif (not expiresAt or fence == version or find(path, "^${QueryEvent.wireNames[Transition.openEvent]}"))
  and (not ifVersion or ifVersion == "" or ifVersion == (version or "0")) then
  -- The whole path is accepted, or none of it.
  local to, moves = state or "${known}", {}
  for event in string.gmatch(path, "%S+") do
    local from = to
    to = nil
    ${indent(targets(layout.edges), 4)}
    if not to then break end
    moves[#moves + 1], moves[#moves + 2] = event, to
  end
  if to and version and tonumber(version) + #moves / 2 > ${maxNumber} then
    outcome = ${outcomes.lastVersion}
  elseif to then
    outcome = ${outcomes.changed}
    -- An argument that is empty or absent becomes false: nil would end a reply.
    local newExpiresAt = lease and lease ~= "" and format("%.0f", nowMillis + lease) or false
    newHolder = newHolder ~= "" and newHolder or false
    newReason = newReason ~= "" and newReason or false
    traceparent = traceparent ~= "" and traceparent or false
    keepMillis = timeToLive ~= "" and timeToLive or false
    newLabel = givenLabel ~= "" and givenLabel or false
    label = newLabel or label
    for index = 1, #moves, 2 do
      local event, to = moves[index], moves[index + 1]
      local isPending = ${anyOf("to", pendingTags)}
      local isFailed = ${anyOf("to", failedTags)}
      if isPending then trace = traceparent end
      ${indent(countAttempts, 6)}
      ${
    indent(
      moveTo(layout, {
        operation: "id",
        event: "event",
        holder: "isPending and newHolder",
        expiresAt: "isPending and newExpiresAt",
        reason: "isFailed and newReason",
        trace: "trace",
        attempts: "attempts",
        isLapse: false
      }),
      6
    )
  }
    end
  end
end
if resultKey then
  if action == "get" and outcome == ${outcomes.refused} then
    -- Whatever else is there is no result.
    results = redis.pcall("HMGET", resultKey, "sv", "s", "fv", "f")
    if results.err then results = {} end
  elseif action == "drop" and (outcome == ${outcomes.changed}
    or outcome == ${outcomes.refused} and (state or "${known}") == "${known}") then
    call("DEL", resultKey)
  end
end`

/** Lua that records what a run left behind. It goes before the record, so that Completed implies a result. */
const leave = (layout: Layout): string =>
  `local resultKey = ARGV[13] == "leave" and outcome == ${outcomes.changed} and KEYS[${layout.keyCount + 1}]
if resultKey then
  local earlier = redis.pcall("HMGET", resultKey, "sv")
  if earlier.err then call("DEL", resultKey) end
  if state == "${wire.Completed}" then
    call("HDEL", resultKey, "f", "fv")
    call("HSET", resultKey, "s", ARGV[14], "sv", version)
  else
    call("HSET", resultKey, "f", ARGV[14], "fv", version)
  end
  if not keptUntil then
    call("PERSIST", resultKey)
  elseif state ~= "${wire.Completed}" and earlier[1] then
    -- One expiry serves both: a failure must not shorten that of the last success.
    call("PEXPIREAT", resultKey, keptUntil, "GT")
  else
    call("PEXPIREAT", resultKey, keptUntil)
  end
end`

const renew = ({ afterWrite }: Layout): string =>
  `local fence, lease, newProgress, newWaitsFor = unpack(ARGV)
-- A version that no command wrote is nobody's claim.
if version ~= fence or operation == "" or not (${anyOf("state", pendingTags)}) then
  outcome = ${outcomes.leaseLost}
else
  outcome = ${outcomes.changed}
  expiresAt = format("%.0f", nowMillis + lease)
  call("HSET", key, "x", expiresAt)
  if newProgress and newProgress ~= "" then
    progress, isReported = newProgress, true
    call("HSET", key, "p", progress)
  end
  if newWaitsFor == "" then
    waitsFor = false
    call("HDEL", key, "w")
  elseif newWaitsFor then
    waitsFor = newWaitsFor
    call("HSET", key, "w", waitsFor)
  end${afterWrite === "" ? "" : `\n  ${indent(afterWrite, 2)}`}
end`

export interface Scripts {
  /**
   * Moves a query along a path that ends where others must wait, if the lifecycle and its claim allow it.
   *
   * ARGV: operation; path, as the names of its events; time of the server in µs after which it is not carried out; where the
   * command is sent again, a time in µs that the server had reached when it was first sent; fence, lease in ms, holder,
   * reason, traceparent, expected version, time to live in ms, label; what to do with the results, and what is left. Each is empty where
   * there is none, or left out at the end.
   */
  readonly claim: string
  /** Moves a query along a path that ends where nobody waits, likewise. */
  readonly conclude: string
  /** Reads a record. No ARGV. */
  readonly read: string
  /**
   * Gives a claim a new lease, if it is still held.
   *
   * ARGV: fence, lease in ms; progress, or empty where it stays; what the holder waits for, empty if it waits for nothing, and
   * left out where that stays.
   */
  readonly renew: string
}

/** Writes the scripts, with the command by which they publish. */
export const make = (publish: Publish, layout: Layout): Scripts => {
  const script = (header: string, body = "", beforeWrite = "") =>
    [header, begin(layout), body, end(publish, layout, beforeWrite)].join("\n").replaceAll(/\n{2,}/g, "\n\n")
  return {
    claim: script(header.claims, compareAndSet(layout)),
    conclude: script(header.frees, compareAndSet(layout), leave(layout)),
    read: script(header.frees),
    renew: script(header.frees, renew(layout))
  }
}
