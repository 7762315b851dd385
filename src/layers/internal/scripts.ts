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
import * as QueryEvent from "../../domain/QueryEvent.ts"
import * as QueryState from "../../domain/QueryState.ts"
import * as Transition from "../../domain/Transition.ts"
import { knownTimeToLive } from "../../services/RedisStore.ts"
import { openEvent } from "./lifecycle.ts"

/** In a cluster a notification goes to those who are connected to the server that has the key, and no further. */
export type Publish = "PUBLISH" | "SPUBLISH"

export const outcomes = { changed: 1, refused: 0, leaseLost: -1, unknown: -2 } as const

/** Whether a script answers that it moved the record on. */
export const isChanged = (reply: unknown): boolean => Array.isArray(reply) && Number(reply[0]) === outcomes.changed

/** How the message ends that tells of progress. */
export const progressed = " progress"

const known = QueryState.wireNames.Known

// Writes the body of a Lua function that finds what belongs to a name. It compares pointers, where a table would be built
// anew for every call.
const choose = (name: string, cases: ReadonlyArray<readonly [is: string, found: string]>): string =>
  cases.map(([is, found]) => `if ${name} == "${is}" then return "${found}" end`).join("\n  ")

/** Writes a Lua table. */
export const table = (entries: ReadonlyArray<readonly [key: string, value: string]>): string =>
  `{ ${entries.map(([key, value]) => `["${key}"] = "${value}"`).join(", ")} }`

// "<event> <state>" -> the state it leads to.
const targets = (edges: ReadonlyArray<Transition.Edge>): string =>
  choose(
    "edge",
    edges.map(({ event, from, to }) => [
      `${QueryEvent.wireNames[event]} ${QueryState.wireNames[from]}`,
      QueryState.wireNames[to]
    ])
  )

// Pending state -> the event that ends it when its lease lapses.
const lapses = choose(
  "state",
  Object.entries(Transition.lapseEvents).map(([state, event]) => [
    QueryState.wireNames[state as keyof typeof Transition.lapseEvents],
    QueryEvent.wireNames[event]
  ])
)

/** What differs where a record is not all there is of a query. */
export interface Variant {
  /** The place among KEYS of the record. */
  readonly recordKey: number
  /** The lifecycle, or what can be had of it. */
  readonly edges: ReadonlyArray<Transition.Edge>
  /** Lua for when a record has been read, before anything is decided. */
  readonly onRead: string
  /** Lua for when all that is needed to move a record on is defined, before a lapsed lease is settled. */
  readonly onSettle: string
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
  onSettle: "",
  onMove: "",
  onMoved: "",
  onRenew: ""
}

// What a script may do when Redis has reached its maxmemory: what frees a query, or keeps its claim, must still work.
const header = { claims: "#!lua\n", frees: "#!lua flags=allow-oom\n" }

// Shared by all scripts: reads the record, settles its lease if that has lapsed, and defines how a record moves on.
//
// A record whose s, v, t or x cannot be right is left alone and answered as it is. Versions and times are written with
// "%.0f", since Lua prints a large number with an exponent; they are exact as far as a Date of JavaScript reaches.
const prelude = (publish: Publish, { edges, onMove, onMoved, onRead, onSettle, recordKey }: Variant) => `
local call, key = redis.call, KEYS[${recordKey}]
local time = call("TIME")
local micros = time[1] * 1000000 + time[2]
local millis = math.floor(micros / 1000)

local s, v, t, h, x, r, p, c, o = unpack(call("HMGET", key, "s", "v", "t", "h", "x", "r", "p", "c", "o"))
local before, since, lapses = s, v, 0
local function answer(outcome)
  if v == since and not p and not c then return { outcome, micros, s, v, t, h, x, r } end
  local moved = v ~= since and (before or "${known}") .. " " .. (since or 0) .. " " .. lapses
  if not p and not c then return { outcome, micros, s, v, t, h, x, r, moved } end
  return { outcome, micros, s, v, t, h, x, r, moved, p, c }
end
local function isWhole(n) return n ~= "" and not string.find(n, "%D") and tonumber(n) <= 8640000000000000 end
if (s or v) and not (s and v and isWhole(v) and (not t or isWhole(t)) and (not x or isWhole(x))) then
  return answer(${outcomes.refused})
end
${onRead}
local function choose(edge)
  ${targets(edges)}
end
local function target(event) return choose(event .. " " .. (s or "${known}")) end

local function int(n) return string.format("%.0f", n) end

local function move(to, operation, event, holder, expiry, reason, trace)${onMove}
  local from, by = s or "${known}", holder or h
  if t or h or x or r or p or c then call("HDEL", key, "t", "h", "x", "r", "p", "c") end
  if s == "${known}" then call("PERSIST", key) end
  local version = math.max((tonumber(v) or 0) + 1, micros)
  s, v, o, h, x, r, p, c = to, int(version), operation, holder, expiry, reason, false, trace
  t = version ~= micros and int(millis)
  local set = { key, "s", s, "v", v, "o", o }
  local size = 7
  if t then set[size + 1], set[size + 2], size = "t", t, size + 2 end
  if h then set[size + 1], set[size + 2], size = "h", h, size + 2 end
  if x then set[size + 1], set[size + 2], size = "x", x, size + 2 end
  if r then set[size + 1], set[size + 2], size = "r", r, size + 2 end
  if c then set[size + 1], set[size + 2] = "c", c end
  call("HSET", unpack(set))
  if s == "${known}" then call("PEXPIRE", key, ${Duration.toMillis(knownTimeToLive)}) end
${onMoved}  -- A hint, and no more: it must not fail what has just been written.
  redis.pcall("${publish}", key, v .. " " .. s)
end

local function lapsed(state)
  ${lapses}
end

${onSettle}
if x and tonumber(x) <= millis and lapsed(s) then
  local to = target(lapsed(s))
  lapses = 1
  -- Where the lifecycle does not have that step, all that ends is the claim.
  move(to or s, "", lapsed(s), false, false, to and cjson.encode({ _tag = "LeaseExpired", holder = h or nil }) or false, c)
end
`

const compareAndSet = (trace: string) => `
local operation, event, fence, lease, holder, reason, traceparent, first = unpack(ARGV)
-- Sent again because the answer was lost: this version is its own work. It is written again, so that whoever waits for
-- the replicas on this connection waits for a write of this connection.
if o == operation then
  call("HSET", key, "o", o)
  return answer(${outcomes.changed})
end
if fence == "" or fence ~= v then
  -- Sent again, and the query has moved since it was first sent: perhaps by this very command, before others. They may
  -- even have moved it back to where the command would be accepted once more.
  if first ~= "" and (tonumber(v) or 0) > tonumber(first) then return answer(${outcomes.unknown}) end
  if fence ~= "" then return answer(${outcomes.leaseLost}) end
end

local to = target(event)
if not to or (x and fence == "" and event ~= "${
  QueryEvent.wireNames[openEvent]
}") then return answer(${outcomes.refused}) end
move(
  to,
  operation,
  event,
  holder ~= "" and holder,
  lease ~= "" and int(millis + lease),
  reason ~= "" and reason,
  ${trace}
)
return answer(${outcomes.changed})
`

const read = `
return answer(${outcomes.refused})
`

const renew = (publish: Publish, { onRenew }: Variant) => `
if v ~= ARGV[1] or not lapsed(s) then return answer(${outcomes.leaseLost}) end
${onRenew}
x = int(millis + ARGV[2])
if ARGV[3] == "" then
  call("HSET", key, "x", x)
else
  p = ARGV[3]
  call("HSET", key, "x", x, "p", p)
  redis.pcall("${publish}", key, v .. " " .. s .. "${progressed}")
end
return answer(${outcomes.changed})
`

// Where there is a history, its key follows that of the record.
const history = ({ recordKey }: Variant) => `
local entries = redis.pcall("XRANGE", KEYS[${recordKey + 1}], "-", "+")
-- As an error it would not tell which of the keys it is about.
if entries.err and string.find(entries.err, "WRONGTYPE", 1, true) then return false end
return entries
`

export interface Scripts {
  /**
   * Moves a query to where others must wait, if the lifecycle and its claim allow it.
   *
   * ARGV: operation, event, then fence, lease in ms, holder, reason and traceparent, each empty where there is none; last,
   * where the command is sent again, a time in µs that the server had reached when it was first sent, else empty.
   */
  readonly claim: string
  /** Moves a query to where nobody need wait, likewise. */
  readonly conclude: string
  /** Reads a record. No ARGV. */
  readonly read: string
  /**
   * Gives a claim a new lease, if it is still held.
   *
   * ARGV: fence, lease in ms, progress or an empty string.
   */
  readonly renew: string
  /** Reads the history, as `XRANGE` answers it, or nothing where its key holds something else. No ARGV. */
  readonly history: string
}

/** Writes the scripts, with the command by which they publish. */
export const make = (publish: Publish, variant: Variant = plain): Scripts => {
  const shared = prelude(publish, variant)
  return {
    claim: `${header.claims}${shared}${compareAndSet(`traceparent ~= "" and traceparent`)}`,
    conclude: `${header.frees}${shared}${compareAndSet("c")}`,
    read: `${header.frees}${shared}${read}`,
    renew: `${header.frees}${shared}${renew(publish, variant)}`,
    history: `${header.frees}${shared}${history(variant)}`
  }
}
