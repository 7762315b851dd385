/** Translates commands into the arguments of the scripts, and their answers into records. */
import * as DateTime from "effect/DateTime"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as QueryEvent from "../../domain/QueryEvent.ts"
import type { QueryKey } from "../../domain/QueryKey.ts"
import * as QueryRecord from "../../domain/QueryRecord.ts"
import * as QueryState from "../../domain/QueryState.ts"
import { Reason } from "../../domain/Reason.ts"
import * as Transition from "../../domain/Transition.ts"
import * as RedisStoreError from "../../services/RedisStoreError.ts"
import type { Checked } from "./command.ts"

const eventsThatLeadTo = (isWanted: (state: QueryState.QueryState) => boolean): ReadonlySet<QueryEvent.QueryEvent> =>
  new Set(Transition.edges.filter(({ to }) => isWanted(QueryState.make(to))).map(({ event }) => event))

/** The events that lead to a state in which others must wait. */
export const takesClaim = eventsThatLeadTo(QueryState.isPending)
const takesReason = eventsThatLeadTo((state) => "reason" in state)

const reasonJson = Schema.fromJsonString(Reason)
// @effect-diagnostics-next-line schemaSync:off -- a reason is always encodable: its constructors see to that
const encodeReason = Schema.encodeSync(reasonJson)

/** The arguments of the scripts that move a query on, but for the last. */
export const encode = (operation: string, command: Checked): Array<string | number> => {
  const claims = takesClaim.has(command.event)
  return [
    operation,
    QueryEvent.wireNames[command.event],
    command.fence ?? "",
    claims && command.leaseMillis !== undefined ? command.leaseMillis : "",
    claims && command.holder !== undefined ? command.holder : "",
    takesReason.has(command.event) && command.reason !== undefined ? encodeReason(command.reason) : ""
  ]
}

const Digits = Schema.String.check(Schema.isPattern(/^\d+$/))
const WholeNumber = Digits.pipe(Schema.decodeTo(Schema.FiniteFromString)).check(Schema.isInt())
const Millis = WholeNumber.check(Schema.isLessThanOrEqualTo(8.64e15))

// The fields of a record as they are stored; `t` is there only where `v` does not tell the time.
const Stored = Schema.Struct({
  s: Schema.String,
  v: WholeNumber,
  t: Schema.NullOr(Millis),
  h: Schema.NullOr(Schema.String),
  x: Schema.NullOr(Millis),
  r: Schema.NullOr(reasonJson)
})

const decodeStored = Schema.decodeUnknownResult(Stored)

export interface Decoded {
  readonly outcome: number
  readonly nowMillis: number
  readonly record: QueryRecord.QueryRecord
}

/** Reads the answer of any script. */
export const decode = (key: QueryKey, reply: unknown): Result.Result<Decoded, RedisStoreError.Reason> => {
  if (!Array.isArray(reply) || reply.length !== 8) {
    return Result.fail(new RedisStoreError.UnexpectedReply({ reply: String(reply) }))
  }
  const [outcome, now, s, v, t, h, x, r] = reply
  const done = (record: QueryRecord.QueryRecord) => ({ outcome: Number(outcome), nowMillis: Number(now), record })
  if (s === null && v === null) return Result.succeed(done(QueryRecord.absent(key)))
  const tag = QueryState.fromWireName(s)
  if (tag === undefined && typeof s === "string") return Result.fail(new RedisStoreError.UnknownState({ raw: s }))
  return Result.mapBoth(decodeStored({ s, v, t, h, x, r }), {
    onFailure: (error) => new RedisStoreError.InvalidRecord({ issue: error.message }),
    onSuccess: (stored) => done(fromStored(key, tag ?? "Known", stored))
  })
}

const fromStored = (
  key: QueryKey,
  tag: QueryState.Tag,
  { h, r, t, v, x }: typeof Stored.Type
): QueryRecord.QueryRecord => ({
  key,
  state: QueryState.make(tag, {
    reason: r ?? undefined,
    claim: h === null && x === null ? undefined : {
      fence: v,
      ...(h === null ? undefined : { holder: h }),
      ...(x === null ? undefined : { expiresAt: DateTime.makeUnsafe(x) })
    }
  }),
  version: v,
  changedAt: DateTime.makeUnsafe(t ?? Math.floor(v / 1000))
})
