/** Translates commands into the arguments of the scripts, and their answers into records. */
import type * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { cut } from "../../../domain/internal/cut.ts"
import { Progress } from "../../../domain/Progress.ts"
import * as QueryEvent from "../../../domain/QueryEvent.ts"
import type { QueryKey } from "../../../domain/QueryKey.ts"
import * as QueryRecord from "../../../domain/QueryRecord.ts"
import * as QueryState from "../../../domain/QueryState.ts"
import { type Reason, unrecorded } from "../../../domain/Reason.ts"
import * as Transition from "../../../domain/Transition.ts"
import type { Results } from "../../../services/RedisStore.ts"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"
import type { Renewal, ValidCommand } from "../command.ts"
import * as Metrics from "../metrics.ts"
import type { QueryKeys } from "./keys.ts"
import * as ReasonJson from "./reasonJson.ts"
import { maxNumber, outcomes } from "./scripts.ts"

const eventsThatLeadTo = (isWanted: (state: QueryState.QueryState) => boolean): ReadonlySet<QueryEvent.QueryEvent> =>
  new Set(Transition.edges.filter(({ to }) => isWanted(QueryState.make(to))).map(({ event }) => event))

const pending: ReadonlySet<QueryState.Tag> = new Set(
  QueryState.tags.filter((tag) => QueryState.isPending(QueryState.make(tag)))
)
const claiming = eventsThatLeadTo(QueryState.isPending)
const failing = eventsThatLeadTo((state) => "reason" in state)

/** Checks whether a path ends where others must wait. */
export const endsPending = ({ events }: ValidCommand): boolean => claiming.has(events[events.length - 1] ?? events[0])

/** When a command was first sent, in times of the server in µs, and whether it is sent again. */
export interface Sending {
  /** A time that the server had certainly reached. */
  readonly sinceMicros: number
  /** After this time the command is not carried out. */
  readonly deadlineMicros: number
  readonly isAgain: boolean
}

/** What the scripts call that which a command does with the results. */
const actions = { Leave: "leave", Drop: "drop", Get: "get" } as const

// One that is bound to a version can be carried out once only, however late it comes.
const needsDeadline = ({ fence, ifVersion }: ValidCommand): boolean => fence === undefined && ifVersion === undefined

/** The arguments of the scripts that move a query. */
export const encode = (
  operation: string,
  command: ValidCommand,
  { deadlineMicros, isAgain, sinceMicros }: Sending
): Array<string | number> => {
  const { events, fence, holder, ifVersion, label, leaseMillis, reason, result, timeToLiveMillis, traceparent } =
    command
  const isClaim = events.some((event) => claiming.has(event))
  const args = [
    operation,
    events.length === 1
      ? QueryEvent.wireNames[events[0]]
      : events.map((event) => QueryEvent.wireNames[event]).join(" "),
    needsDeadline(command) ? deadlineMicros : "",
    isAgain ? sinceMicros : "",
    fence ?? "",
    isClaim ? leaseMillis ?? "" : "",
    isClaim ? holder ?? "" : "",
    reason !== undefined && events.some((event) => failing.has(event)) ? ReasonJson.encode(reason) : "",
    isClaim ? traceparent ?? "" : "",
    ifVersion ?? "",
    timeToLiveMillis ?? "",
    label ?? "",
    result === undefined ? "" : actions[result._tag]
  ]
  // Most commands end after the deadline.
  while (args.at(-1) === "") args.pop()
  if (result?._tag === "Leave") args.push(result.text)
  return args
}

const progressJson = Schema.fromJsonString(Progress)
// @effect-diagnostics-next-line schemaSync:off -- progress has been checked
const encodeProgress = Schema.encodeSync(progressJson)

// As short as can be: it is written for every query on the way.
const waitsForJson = Schema.fromJsonString(
  Schema.Array(
    Schema.Tuple([Schema.String, Schema.String, Schema.Int]).pipe(Schema.decodeTo(QueryRecord.WaitsFor, {
      decode: SchemaGetter.transform(([db, query, version]) => ({ key: { db, query }, version })),
      encode: SchemaGetter.transform(({ key: { db, query }, version }) => [db, query, version] as const)
    }))
  )
)
// @effect-diagnostics-next-line schemaSync:off -- it has been checked
const encodeWaitsFor = Schema.encodeSync(waitsForJson)
const decodeWaitsFor = Schema.decodeUnknownOption(waitsForJson)

/** The arguments of the script that renews a claim. */
export const encodeRenewal = (
  { fence, leaseMillis, progress, waitsFor }: Renewal
): Array<string | number> => {
  if (progress === undefined && waitsFor === undefined) return [fence, leaseMillis]
  const reported = progress === undefined ? "" : encodeProgress(progress)
  if (waitsFor === undefined) return [fence, leaseMillis, reported]
  return [fence, leaseMillis, reported, waitsFor.length === 0 ? "" : encodeWaitsFor(waitsFor)]
}

const decodeProgress = Schema.decodeUnknownOption(progressJson)

/** The fields of a record as Redis has them; `null` for what is absent. */
interface Fields {
  readonly s: unknown
  readonly v: unknown
  readonly t: unknown
  readonly h: unknown
  readonly x: unknown
  readonly r: unknown
  readonly p: unknown
  readonly c: unknown
  readonly a: unknown
  readonly e: unknown
  readonly w: unknown
  readonly l: unknown
}

/** Why a record cannot be read, once it is known in which keys it is. */
type Problem = (keys: QueryKeys) => RedisStoreError.Failure

/**
 * Reads a record.
 *
 * By hand but for reason and progress, since it is done for every command: a schema takes ten times as long.
 */
const toRecord = (
  key: QueryKey,
  { a, c, e, h, l, p, r, s, t, v, w, x }: Fields
): Result.Result<QueryRecord.QueryRecord, Problem> => {
  if (s === null && v === null) return Result.succeed(QueryRecord.absent(key))
  const tag = typeof s === "string" ? QueryState.fromWireName(s) : undefined
  if (tag === undefined && typeof s === "string") {
    return Result.fail(({ state }) => new RedisStoreError.UnknownState({ raw: s, redisKey: state }))
  }
  const version = wholeNumber(v)
  const changedMillis = t === null ? Math.floor(version / 1000) : wholeNumber(t)
  const expiresMillis = x === null ? undefined : wholeNumber(x)
  const attempts = a === null ? 0 : wholeNumber(a)
  const keptMillis = e === null ? undefined : wholeNumber(e)
  if (tag === undefined) return invalid("s", "the name of a state", s)
  if (Number.isNaN(version)) return invalid("v", "a version", v)
  if (Number.isNaN(changedMillis)) return invalid("t", "a time in milliseconds", t)
  if (Number.isNaN(expiresMillis)) return invalid("x", "a time in milliseconds", x)
  if (expiresMillis !== undefined && !pending.has(tag)) return invalid("x", `absent in the state ${s}`, x)
  if (Number.isNaN(attempts)) return invalid("a", "a number of attempts", a)
  if (Number.isNaN(keptMillis)) return invalid("e", "a time in milliseconds", e)
  if (keptMillis !== undefined && pending.has(tag)) return invalid("e", `absent in the state ${s}`, e)
  const record: QueryRecord.QueryRecord = {
    key,
    state: QueryState.make(tag, {
      reason: r === null ? undefined : reasonOf(r),
      claim: h === null && expiresMillis === undefined ? undefined : {
        fence: version,
        ...(h === null ? undefined : { holder: String(h) }),
        ...(expiresMillis === undefined ? undefined : { expiresAt: DateTime.makeUnsafe(expiresMillis) })
      }
    }),
    version,
    attempts,
    changedAt: DateTime.makeUnsafe(changedMillis)
  }
  return Result.succeed(
    p === null && c === null && keptMillis === undefined && w === null && l === null ? record : {
      ...record,
      ...progressOf(p),
      ...traceparentOf(c),
      ...(keptMillis === undefined ? undefined : { keptUntil: DateTime.makeUnsafe(keptMillis) }),
      ...waitsForOf(w),
      ...(l === null ? undefined : { label: String(l) })
    }
  )
}

export interface Decoded {
  readonly outcome: number
  readonly nowMicros: number
  readonly record: QueryRecord.QueryRecord
  /** Where the record stood before, if it has moved: see the scripts. */
  readonly before: string | undefined
  /** What runs left behind, where the command asked for it and was refused. */
  readonly results: Results | undefined
}

/** The fields of the results. */
export const resultFields = ["sv", "s", "fv", "f"] as const

const resultOf = (version: unknown, text: unknown) => {
  const number = wholeNumber(version)
  return typeof text === "string" && !Number.isNaN(number) ? { version: number, text } : undefined
}

/** Reads the fields of the results. Whatever else is there is no result. */
export const decodeResults = (reply: unknown): Results => {
  const [sv, s, fv, f] = Array.isArray(reply) ? reply : []
  const success = resultOf(sv, s)
  const failure = resultOf(fv, f)
  return { ...(success && { success }), ...(failure && { failure }) }
}

const knownOutcomes: ReadonlySet<number> = new Set(Object.values(outcomes))

// No server has a time at which a record could not be written.
const isTime = (micros: number): boolean => micros > 0 && micros < maxNumber

// A client of the program's own may answer numbers as texts.
const integer = (reply: unknown): number => {
  const number = typeof reply === "number" || (typeof reply === "string" && reply !== "") ? Number(reply) : Number.NaN
  return Number.isInteger(number) ? number : Number.NaN
}

const unexpected = (reply: unknown) =>
  Result.fail(new RedisStoreError.UnexpectedReply({ reply: `${cut(String(reply), 100)} to a script` }))

// The last fields are left out where all of them are absent.
const lengths: ReadonlySet<number> = new Set([8, 10, 15, 16])

/** Reads the reply of any script. */
export const decode = (
  key: QueryKey,
  keys: QueryKeys,
  reply: unknown
): Result.Result<Decoded, RedisStoreError.Failure> => {
  if (!Array.isArray(reply) || !lengths.has(reply.length)) return unexpected(reply)
  const [, , s, v, t, h, x, r, a = null, before = null, p = null, c = null, e = null, w = null, l = null] = reply
  const outcome = integer(reply[0])
  const nowMicros = integer(reply[1])
  if (!knownOutcomes.has(outcome) || !isTime(nowMicros)) return unexpected(reply)
  for (let index = 2; index < Math.min(reply.length, 15); index++) {
    if (reply[index] !== null && typeof reply[index] !== "string") return unexpected(reply)
  }
  if (outcome === outcomes.lastVersion) {
    return Result.fail(invalidField("v", "a version after which there are others", v)(keys))
  }
  const record = toRecord(key, { s, v, t, h, x, r, a, p, c, e, w, l })
  return Result.isFailure(record) ? Result.fail(record.failure(keys)) : Result.succeed({
    outcome,
    nowMicros,
    record: record.success,
    before: before ?? undefined,
    results: reply[15] === undefined ? undefined : decodeResults(reply[15])
  })
}

// A record holds at most some kilobytes of reason and progress.
const longestMessage = 65_536

const absent = (line: string | undefined): string | null => line === undefined || line === "" ? null : line

/** Reads a notification; `undefined` where it is none that this version publishes. */
export const decodeMessage = (key: QueryKey, message: string): QueryRecord.QueryRecord | undefined => {
  if (message.length > longestMessage) return undefined
  const [first = "", t, x, r, p, c, a, e, w, l, ...h] = message.split("\n")
  const [v = "", s = "", ...rest] = first.split(" ")
  if (rest.length > 0 || (t !== undefined && l === undefined)) return undefined
  const fields = {
    s,
    v,
    t: absent(t),
    x: absent(x),
    r: absent(r),
    p: absent(p),
    c: absent(c),
    a: absent(a),
    e: absent(e),
    w: absent(w),
    l: absent(l),
    h: absent(h.join("\n"))
  }
  return Result.getOrUndefined(toRecord(key, fields))
}

/** Counts where a record stood before it moved. */
export const countMoved = (before: string, nowMicros: number, context: Context.Context<never>): void => {
  const afterState = before.indexOf(" ")
  const from = QueryState.fromWireName(before.slice(0, afterState))
  const sinceMicros = Number(before.slice(afterState + 1, -2))
  if (from !== undefined) Metrics.moved(from, sinceMicros, nowMicros, before.endsWith("1"), context)
}

// A reason that this version does not know, or with longer texts, was written by a newer one: the record is read without it.
const reasonOf = (json: unknown): Reason => Option.getOrElse(ReasonJson.decode(json), () => unrecorded)

const progressOf = (json: unknown) =>
  json === null ? undefined : Option.match(decodeProgress(json), {
    onNone: () => undefined,
    onSome: (progress) => ({ progress })
  })

const waitsForOf = (json: unknown) =>
  json === null ? undefined : Option.match(decodeWaitsFor(json), {
    onNone: () => undefined,
    onSome: (waitsFor) => ({ waitsFor })
  })

const traceparentOf = (text: unknown) => text === null ? undefined : { traceparent: String(text) }

/** `NaN` where the text is no whole number that a record can have. */
const wholeNumber = (text: unknown): number => {
  const number = typeof text === "string" && /^\d+$/.test(text) ? Number(text) : Number.NaN
  return number <= maxNumber ? number : Number.NaN
}

const invalidField = (field: string, expected: string, actual: unknown): Problem => ({ channel }) =>
  new RedisStoreError.InvalidRecord({
    issue: `["${field}"] must be ${expected}, and is "${String(actual)}"`,
    redisKey: channel
  })

const invalid = (field: string, expected: string, actual: unknown) => Result.fail(invalidField(field, expected, actual))
