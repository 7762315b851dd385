/**
 * The scripts that run inside Redis, each above what it takes and what it answers.
 *
 * A record is one hash with these fields; those that do not apply are absent:
 *
 *     s  state, by its wire name        o  operation that wrote this version; absent after a lapse
 *     v  version                        h  holder of the claim
 *     t  time of the change in ms,      x  when its lease lapses, in ms
 *        where it is not that of v      r  reason, as JSON
 *     p  progress, as JSON              c  traceparent of the last claim
 *
 * The scripts answer `{ outcome, now in µs, s, v, t, h, x, r, moved, p, c }`: the record as it stands afterwards, `false`
 * for what is absent, and without the last ones where all of them are. `moved` is there where the record has moved on:
 * `<state before> <version before> <whether a lease lapsed, 1 or 0>`. Whenever it does, `<version> <state>` is
 * published on the channel with the name of its key, and `<version> <state> progress` when progress is reported.
 */
import * as Duration from "effect/Duration"
import * as QueryEvent from "../../../domain/QueryEvent.ts"
import * as QueryState from "../../../domain/QueryState.ts"
import * as Transition from "../../../domain/Transition.ts"
import { knownTimeToLive } from "../../../services/RedisStore.ts"
import { openEvent } from "../memory/lifecycle.ts"

/** In a cluster a notification goes to those who are connected to the server that has the key, and no further. */
export type Publish = "PUBLISH" | "SPUBLISH"

export const outcomes = { changed: 1, refused: 0, leaseLost: -1, unknown: -2 } as const

/** Whether a script answers with a record, and not with what it was asked for besides. */
export const isRecord = (reply: unknown): boolean => Array.isArray(reply) && typeof reply[0] === "number"

/** Whether a script answers that it moved the record on. */
export const isChanged = (reply: unknown): boolean => Array.isArray(reply) && Number(reply[0]) === outcomes.changed

/** How the message ends that tells of progress. */
export const progressed = " progress"

const known = QueryState.wireNames.Known

/** Writes a Lua table. */
export const table = (entries: ReadonlyArray<readonly [key: string, value: string]>): string =>
  `{ ${entries.map(([key, value]) => `["${key}"] = "${value}"`).join(", ")} }`

/** What differs where a record is not all there is of a query. */
export interface Variant {
  /** The place among KEYS of the record. */
  readonly recordKey: number
  /** The lifecycle, or what can be had of it. */
  readonly edges: ReadonlyArray<Transition.Edge>
  /** Lua for when a record has been read, before anything is decided. */
  readonly onRead: string
  /** Lua for before a lapsed lease is settled, given how a record moves on. */
  readonly onSettle: (move: (step: Step) => string) => string
  /** Lua for before a record moves on to the state `to`. */
  readonly onMove: string
  /** Lua for after it has: by `event`, if that is known, `from` one state to `s`, with a claim `by` somebody, or of his. */
  readonly onMoved: string
  /** Lua for before a claim is renewed. */
  readonly onRenew: string
}

export const plain: Variant = {
  recordKey: 1,
  edges: Transition.edges,
  onRead: "",
  onSettle: () => "",
  onMove: "",
  onMoved: "",
  onRenew: ""
}

// What a script may do when Redis has reached its maxmemory: what frees a query, or keeps its claim, must still work.
const header = { claims: "#!lua\n", frees: "#!lua flags=allow-oom\n" }

// Lua runs straight on here, without functions: to define the six that there were took a quarter of the time of a script.

/** Lua that answers with the record as it stands. */
export const answer = (outcome: number): string => {
  const record = `${outcome}, micros, s, v, t, h, x, r`
  return `do
  if p or c then return { ${record}, moved, p, c } end
  if moved then return { ${record}, moved } end
  return { ${record} }
end`
}

/** Lua that does one thing or another, by the state a query is in. */
const byState = (cases: ReadonlyArray<readonly [state: QueryState.Tag, lua: string]>): string =>
  `${
    cases.map(([state, lua]) => {
      const name = QueryState.wireNames[state]
      return `if ${state === "Known" ? `not s or s == "${name}"` : `s == "${name}"`} then\n  ${lua}`
    }).join("\nelse")
  }\nend`

/** Lua that sets `to` to where the event leads, if it leads anywhere. */
const findTarget = (edges: ReadonlyArray<Transition.Edge>): string =>
  byState(
    QueryState.tags.flatMap((tag) => {
      const targets = edges.filter(({ from }) => from === tag).map(({ event, to }) =>
        `if event == "${QueryEvent.wireNames[event]}" then to = "${QueryState.wireNames[to]}"`
      )
      return targets.length === 0 ? [] : [[tag, `${targets.join(" else")} end`]]
    })
  )

/** Lua that sets `event` to what ends a claim whose lease has lapsed, and `to` to where that leads, if it leads anywhere. */
const findLapse = (edges: ReadonlyArray<Transition.Edge>): string =>
  byState(
    Object.entries(Transition.lapseEvents).map(([state, event]) => {
      const from = state as keyof typeof Transition.lapseEvents
      const edge = edges.find((edge) => edge.from === from && edge.event === event)
      const to = edge === undefined ? "nil" : `"${QueryState.wireNames[edge.to]}"`
      return [from, `event, to = "${QueryEvent.wireNames[event]}", ${to}`]
    })
  )

const isPending = Object.keys(Transition.lapseEvents).map((state) =>
  `s == "${QueryState.wireNames[state as keyof typeof Transition.lapseEvents]}"`
).join(" or ")

/** How a record moves on, each as Lua: `nil` or `false` for what there is not. */
export interface Step {
  readonly to: string
  readonly operation: string
  readonly event: string
  readonly holder: string
  readonly expiry: string
  readonly reason: string
  readonly trace: string
  readonly isLapse: boolean
}

/** A step by nobody, which ends a claim. */
export const unclaimed = { operation: `""`, holder: "false", expiry: "false", reason: "false", trace: "c" } as const

/** Lua that moves a record on. Most records have only what is set at once. */
const moveOn = (publish: Publish, { onMove, onMoved }: Variant) => (step: Step): string => {
  const before = `(s or "${known}") .. " " .. (v or 0) .. " ${step.isLapse ? 1 : 0}"`
  return `do
  local to, event, holder, expiry, reason, trace = ${step.to}, ${step.event}, ${step.holder}, ${step.expiry}, ${step.reason}, ${step.trace}
  ${onMove}
  local from, by = s or "${known}", holder or h
  moved = ${step.isLapse ? before : `moved or ${before}`}
  if t or h or x or r or p or c then call("HDEL", key, "t", "h", "x", "r", "p", "c") end
  if s == "${known}" then call("PERSIST", key) end
  local version = v and tonumber(v) >= micros and tonumber(v) + 1 or micros
  s, v, o, h, x, r, p, c = to, format("%.0f", version), ${step.operation}, holder, expiry, reason, false, trace
  t = version ~= micros and format("%.0f", millis)
  if t or r or c then
    local set = { key, "s", s, "v", v, "o", o }
    local size = 7
    if t then set[size + 1], set[size + 2], size = "t", t, size + 2 end
    if h then set[size + 1], set[size + 2], size = "h", h, size + 2 end
    if x then set[size + 1], set[size + 2], size = "x", x, size + 2 end
    if r then set[size + 1], set[size + 2], size = "r", r, size + 2 end
    if c then set[size + 1], set[size + 2] = "c", c end
    call("HSET", unpack(set))
  elseif h and x then
    call("HSET", key, "s", s, "v", v, "o", o, "h", h, "x", x)
  elseif h or x then
    call("HSET", key, "s", s, "v", v, "o", o, h and "h" or "x", h or x)
  else
    call("HSET", key, "s", s, "v", v, "o", o)
  end
  if s == "${known}" then call("PEXPIRE", key, ${Duration.toMillis(knownTimeToLive)}) end
  ${onMoved}
  -- A hint, and no more: it must not fail what has just been written.
  redis.pcall("${publish}", key, v .. " " .. s)
end`
}

// Shared by all scripts: reads the record, and settles its lease if that has lapsed.
//
// A record whose s, v, t or x cannot be right is left alone and answered as it is. Versions and times are written with
// "%.0f", since Lua prints a large number with an exponent; they are exact as far as a Date of JavaScript reaches.
const isWhole = (n: string) => `(not find(${n}, "%D") and (tonumber(${n}) or 1 / 0) <= 8640000000000000)`

const prelude = ({ edges, onRead, onSettle, recordKey }: Variant, move: (step: Step) => string): string => `
local call, key, find, format = redis.call, KEYS[${recordKey}], string.find, string.format
local time = call("TIME")
local micros = time[1] * 1000000 + time[2]
local millis = (micros - micros % 1000) / 1000

local s, v, t, h, x, r, p, c, o = unpack(call("HMGET", key, "s", "v", "t", "h", "x", "r", "p", "c", "o"))
local moved = false
if (s or v) and not (s and v and ${isWhole("v")} and (not t or ${isWhole("t")}) and (not x or ${isWhole("x")})) then
  ${answer(outcomes.refused)}
end
${onRead}
${onSettle(move)}
if x and tonumber(x) <= millis then
  local event, to
  ${findLapse(edges)}
  if event then
    -- Where the lifecycle does not have that step, all that ends is the claim.
    ${
  move({
    ...unclaimed,
    to: "to or s",
    event: "event",
    reason: `to and cjson.encode({ _tag = "LeaseExpired", holder = h or nil }) or false`,
    isLapse: true
  })
}
  end
end
`

/** Lua for an argument that may be empty, or left out at the end: it must not become `nil`, which would end an answer. */
const given = (name: string): string => `${name} ~= "" and ${name} or false`

const compareAndSet = (edges: ReadonlyArray<Transition.Edge>, move: (step: Step) => string, trace: string): string => `
local operation, event, first, fence, lease, holder, reason, traceparent = unpack(ARGV)
-- Sent again because the answer was lost: this version is its own work. It is written again, so that whoever waits for
-- the replicas on this connection waits for a write of this connection.
if o == operation then
  call("HSET", key, "o", o)
  ${answer(outcomes.changed)}
end
if fence ~= v then
  -- Sent again, and the query has moved since it was first sent: perhaps by this very command, before others. They may
  -- even have moved it back to where the command would be accepted once more.
  if first and first ~= "" and (tonumber(v) or 0) > tonumber(first) then ${answer(outcomes.unknown)} end
  if fence and fence ~= "" then ${answer(outcomes.leaseLost)} end
end

local to
${findTarget(edges)}
if not to or (x and fence ~= v and event ~= "${QueryEvent.wireNames[openEvent]}") then ${answer(outcomes.refused)} end
${
  move({
    to: "to",
    operation: "operation",
    event: "event",
    holder: given("holder"),
    expiry: `lease and lease ~= "" and format("%.0f", millis + lease) or false`,
    reason: given("reason"),
    trace,
    isLapse: false
  })
}
${answer(outcomes.changed)}
`

const read = `
${answer(outcomes.refused)}
`

const renew = (publish: Publish, { onRenew }: Variant): string => `
if v ~= ARGV[1] or not (${isPending}) then ${answer(outcomes.leaseLost)} end
${onRenew}
x = format("%.0f", millis + ARGV[2])
if ARGV[3] then
  p = ARGV[3]
  call("HSET", key, "x", x, "p", p)
  redis.pcall("${publish}", key, v .. " " .. s .. "${progressed}")
else
  call("HSET", key, "x", x)
end
${answer(outcomes.changed)}
`

// Where there is a history, its key follows that of the record.
const history = ({ recordKey }: Variant): string => `
local entries = redis.pcall("XRANGE", KEYS[${recordKey + 1}], "-", "+")
-- As an error it would not tell which of the keys it is about.
if entries.err and string.find(entries.err, "WRONGTYPE", 1, true) then return false end
return entries
`

export interface Scripts {
  /**
   * Moves a query to where others must wait, if the lifecycle and its claim allow it.
   *
   * ARGV: operation, event; where the command is sent again, a time in µs that the server had reached when it was first
   * sent; fence, lease in ms, holder, reason and traceparent. Each is empty where there is none, or left out at the end.
   */
  readonly claim: string
  /** Moves a query to where nobody need wait, likewise. */
  readonly conclude: string
  /** Reads a record. No ARGV. */
  readonly read: string
  /**
   * Gives a claim a new lease, if it is still held.
   *
   * ARGV: fence, lease in ms, and progress where there is any.
   */
  readonly renew: string
  /** Reads the history, as `XRANGE` answers it, or nothing where its key holds something else. No ARGV. */
  readonly history: string
}

/** Writes the scripts, with the command by which they publish. */
export const make = (publish: Publish, variant: Variant = plain): Scripts => {
  const move = moveOn(publish, variant)
  const shared = prelude(variant, move)
  const { edges } = variant
  return {
    claim: `${header.claims}${shared}${compareAndSet(edges, move, given("traceparent"))}`,
    conclude: `${header.frees}${shared}${compareAndSet(edges, move, "c")}`,
    read: `${header.frees}${shared}${read}`,
    renew: `${header.frees}${shared}${renew(publish, variant)}`,
    history: `${header.frees}${shared}${history(variant)}`
  }
}
