/** Translates commands into the arguments of the scripts, and their answers into records. */
import type * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Progress } from "../../../domain/Progress.ts"
import * as QueryEvent from "../../../domain/QueryEvent.ts"
import type { QueryKey } from "../../../domain/QueryKey.ts"
import * as QueryRecord from "../../../domain/QueryRecord.ts"
import * as QueryState from "../../../domain/QueryState.ts"
import { Reason } from "../../../domain/Reason.ts"
import * as Transition from "../../../domain/Transition.ts"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"
import type { Renewal, ValidCommand } from "../command.ts"
import * as Metrics from "../metrics.ts"

const eventsThatLeadTo = (isWanted: (state: QueryState.QueryState) => boolean): ReadonlySet<QueryEvent.QueryEvent> =>
  new Set(Transition.edges.filter(({ to }) => isWanted(QueryState.make(to))).map(({ event }) => event))

const claiming = eventsThatLeadTo(QueryState.isPending)
const failing = eventsThatLeadTo((state) => "reason" in state)

/** Checks whether a path ends where others must wait. */
export const endsPending = ({ events }: ValidCommand): boolean => claiming.has(events[events.length - 1] ?? events[0])

const reasonJson = Schema.fromJsonString(Reason)
// @effect-diagnostics-next-line schemaSync:off -- a reason is always encodable: its constructors see to that
const encodeReason = Schema.encodeSync(reasonJson)

/** The arguments of the scripts that move a query; `since` is given where a command is sent again. */
export const encode = (operation: string, since: number | "", command: ValidCommand): Array<string | number> => {
  const { events, fence, holder, ifVersion, leaseMillis, reason, traceparent } = command
  const isClaim = events.some((event) => claiming.has(event))
  const args = [
    operation,
    events.length === 1
      ? QueryEvent.wireNames[events[0]]
      : events.map((event) => QueryEvent.wireNames[event]).join(" "),
    since,
    fence ?? "",
    isClaim ? leaseMillis ?? "" : "",
    isClaim ? holder ?? "" : "",
    reason !== undefined && events.some((event) => failing.has(event)) ? encodeReason(reason) : "",
    isClaim ? traceparent ?? "" : "",
    ifVersion ?? ""
  ]
  // Most commands end after the path.
  while (args.at(-1) === "") args.pop()
  return args
}

const progressJson = Schema.fromJsonString(Progress)
// @effect-diagnostics-next-line schemaSync:off -- progress has been checked
const encodeProgress = Schema.encodeSync(progressJson)

/** The arguments of the script that renews a claim. */
export const encodeRenewal = ({ fence, leaseMillis, progress }: Renewal): Array<string | number> =>
  progress === undefined ? [fence, leaseMillis] : [fence, leaseMillis, encodeProgress(progress)]

const decodeReason = Schema.decodeUnknownResult(reasonJson)
const decodeProgress = Schema.decodeUnknownResult(progressJson)

export interface Decoded {
  readonly outcome: number
  readonly nowMicros: number
  readonly record: QueryRecord.QueryRecord
  /** Where the record stood before, if it has moved on: see the scripts. */
  readonly moved: string | undefined
}

/**
 * Reads the answer of any script.
 *
 * By hand but for the reason, since it is done for every command: a schema takes ten times as long.
 */
export const decode = (key: QueryKey, reply: unknown): Result.Result<Decoded, RedisStoreError.Failure> => {
  if (!Array.isArray(reply) || reply.length < 8) {
    return Result.fail(new RedisStoreError.UnexpectedReply({ reply: String(reply) }))
  }
  const [outcome, now, s, v, t, h, x, r, moved = null, p = null, c = null] = reply
  const done = (record: QueryRecord.QueryRecord): Decoded => ({
    outcome: Number(outcome),
    nowMicros: Number(now),
    record,
    moved: moved === null ? undefined : String(moved)
  })
  if (s === null && v === null) return Result.succeed(done(QueryRecord.absent(key)))
  const tag = QueryState.fromWireName(s)
  if (tag === undefined && typeof s === "string") return Result.fail(new RedisStoreError.UnknownState({ raw: s }))
  const version = wholeNumber(v, Number.MAX_SAFE_INTEGER)
  const changedMillis = t === null ? Math.floor(version / 1000) : wholeNumber(t, maxMillis)
  const expiresMillis = x === null ? undefined : wholeNumber(x, maxMillis)
  if (tag === undefined) return invalid("s", "the name of a state", s)
  if (Number.isNaN(version)) return invalid("v", "a version", v)
  if (Number.isNaN(changedMillis)) return invalid("t", "a time in milliseconds", t)
  if (Number.isNaN(expiresMillis)) return invalid("x", "a time in milliseconds", x)
  const record = (reason: Reason | undefined): Decoded => {
    const plain: QueryRecord.QueryRecord = {
      key,
      state: QueryState.make(tag, {
        reason,
        claim: h === null && expiresMillis === undefined ? undefined : {
          fence: version,
          ...(h === null ? undefined : { holder: String(h) }),
          ...(expiresMillis === undefined ? undefined : { expiresAt: DateTime.makeUnsafe(expiresMillis) })
        }
      }),
      version,
      changedAt: DateTime.makeUnsafe(changedMillis)
    }
    return done(p === null && c === null ? plain : { ...plain, ...progressOf(p), ...traceparentOf(c) })
  }
  return r === null ? Result.succeed(record(undefined)) : Result.mapBoth(decodeReason(r), {
    onFailure: (error) => new RedisStoreError.InvalidRecord({ issue: `["r"] ${error.message}` }),
    onSuccess: record
  })
}

/** Counts what a script tells of where a record stood before. */
export const countMoved = (moved: string, nowMicros: number, context: Context.Context<never>): void => {
  const afterState = moved.indexOf(" ")
  const from = QueryState.fromWireName(moved.slice(0, afterState))
  const sinceMicros = Number(moved.slice(afterState + 1, -2))
  if (from !== undefined) Metrics.moved(from, sinceMicros, nowMicros, moved.endsWith("1"), context)
}

// What can be done without is left out where it cannot be read.
const progressOf = (json: unknown) =>
  json === null ? undefined : Result.match(decodeProgress(json), {
    onFailure: () => undefined,
    onSuccess: (progress) => ({ progress })
  })

const traceparentOf = (text: unknown) => text === null ? undefined : { traceparent: String(text) }

// What a Date can hold.
const maxMillis = 8.64e15

/** `NaN` where that is none. */
const wholeNumber = (text: unknown, most: number): number => {
  const number = typeof text === "string" && /^\d+$/.test(text) ? Number(text) : Number.NaN
  return number <= most ? number : Number.NaN
}

const invalid = (field: string, expected: string, actual: unknown) =>
  Result.fail(
    new RedisStoreError.InvalidRecord({ issue: `["${field}"] must be ${expected}, and is "${String(actual)}"` })
  )
