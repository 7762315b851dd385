/** What the scripts do, as pure functions on a record: the lifecycle with its leases, fences and versions. */
import * as DateTime from "effect/DateTime"
import type { QueryEvent } from "../../../domain/QueryEvent.ts"
import type { QueryRecord } from "../../../domain/QueryRecord.ts"
import * as QueryState from "../../../domain/QueryState.ts"
import * as Reason from "../../../domain/Reason.ts"
import * as Transition from "../../../domain/Transition.ts"
import type { Renewal, ValidCommand } from "../command.ts"
import type { Keep } from "../scripts/keep.ts"

/** One transition of a query, by an event, or because its lease lapsed. */
export interface Move {
  readonly event: QueryEvent
  readonly before: QueryRecord
  readonly after: QueryRecord
  readonly isLapse: boolean
}

/** What becomes of a command, the record afterwards, and the transitions that it made. */
export interface Decision {
  readonly _tag: "Changed" | "Refused" | "LeaseLost"
  readonly record: QueryRecord
  readonly moves: ReadonlyArray<Move>
}

const unchanged = (_tag: "Refused" | "LeaseLost", record: QueryRecord): Decision => ({ _tag, record, moves: [] })

const nextVersion = (record: QueryRecord, nowMillis: number): number => Math.max(record.version + 1, nowMillis * 1000)

const move = (record: QueryRecord, event: QueryEvent, to: QueryState.Tag, nowMillis: number, data: {
  readonly leaseMillis?: number | undefined
  readonly holder?: string | undefined
  readonly reason?: Reason.Reason | undefined
  readonly traceparent?: string | undefined
  readonly label?: string | undefined
}): QueryRecord => {
  const version = nextVersion(record, nowMillis)
  return {
    key: record.key,
    state: QueryState.make(to, {
      reason: data.reason,
      claim: data.leaseMillis === undefined && data.holder === undefined ? undefined : {
        fence: version,
        ...(data.holder === undefined ? undefined : { holder: data.holder }),
        ...(data.leaseMillis === undefined
          ? undefined
          : { expiresAt: DateTime.makeUnsafe(nowMillis + data.leaseMillis) })
      }
    }),
    version,
    attempts: Transition.attemptsAfter(record.attempts, event, record.state._tag, data.reason),
    changedAt: DateTime.makeUnsafe(nowMillis),
    ...traceparentOf(QueryState.isPending(QueryState.make(to)) ? data : record),
    ...labelOf(data.label === undefined ? record : data)
  }
}

const labelOf = ({ label }: { readonly label?: string | undefined }) => label === undefined ? undefined : { label }

const traceparentOf = ({ traceparent }: { readonly traceparent?: string | undefined }) =>
  traceparent === undefined ? undefined : { traceparent }

/** The record in which a command leaves a query: it may expire, and one that rests in Known has no attempts behind it. */
const rest = (record: QueryRecord, nowMillis: number, keep: Keep, timeToLiveMillis?: number): QueryRecord => {
  if (record.state._tag === "Known") return { ...record, attempts: 0 }
  const keepMillis = timeToLiveMillis ?? keep[record.state._tag]
  return keepMillis === undefined ? record : { ...record, keptUntil: DateTime.makeUnsafe(nowMillis + keepMillis) }
}

/** The transition that ends a claim whose lease has lapsed; `undefined` for any other record. */
export const lapse = (record: QueryRecord, nowMillis: number, keep: Keep): Move | undefined => {
  if (!QueryState.isPending(record.state)) return undefined
  const { claim } = record.state
  if (claim?.expiresAt === undefined || nowMillis < DateTime.toEpochMillis(claim.expiresAt)) return undefined
  const event = Transition.lapseEvents[record.state._tag]
  const to = Transition.next(record.state._tag, event)
  if (to === undefined) return undefined
  const after = {
    ...move(record, event, to, nowMillis, { reason: Reason.leaseExpired(claim.holder) }),
    attempts: Transition.attemptsAfterLapse(record.attempts, record.state._tag)
  }
  return { event, before: record, after: rest(after, nowMillis, keep), isLapse: true }
}

const isOthers = (record: QueryRecord, event: QueryEvent): boolean =>
  event !== Transition.openEvent && QueryState.claimOf(record.state)?.expiresAt !== undefined

// Nobody claimed a query that has no record, so its version is nobody's fence.
const isHeldBy = ({ version }: QueryRecord, fence: number): boolean => version === fence && version > 0

/** The decision on a command that was carried out before, and is sent again. */
export const carriedOut = (record: QueryRecord): Decision => ({ _tag: "Changed", record, moves: [] })

/** Decides a command on a record whose lease has not lapsed. */
export const decide = (record: QueryRecord, command: ValidCommand, nowMillis: number, keep: Keep): Decision => {
  const { events, fence, ifVersion } = command
  if (fence !== undefined && !isHeldBy(record, fence)) return unchanged("LeaseLost", record)
  if (ifVersion !== undefined && ifVersion !== record.version) return unchanged("Refused", record)
  if (fence === undefined && isOthers(record, events[0])) return unchanged("Refused", record)
  const moves: Array<Move> = []
  let before = record
  for (const [index, event] of events.entries()) {
    const to = Transition.next(before.state._tag, event)
    if (to === undefined) return unchanged("Refused", record)
    const moved = move(before, event, to, nowMillis, command)
    const after = index === events.length - 1 ? rest(moved, nowMillis, keep, command.timeToLiveMillis) : moved
    moves.push({ event, before, after, isLapse: false })
    before = after
  }
  return { _tag: "Changed", record: before, moves }
}

const waitingFor = (record: QueryRecord, waitsFor: Renewal["waitsFor"]): QueryRecord => {
  if (waitsFor === undefined) return record
  const { waitsFor: _, ...others } = record
  return waitsFor.length === 0 ? others : { ...others, waitsFor }
}

/** Decides a renewal on a settled record. */
export const renew = (
  record: QueryRecord,
  { fence, leaseMillis, progress, waitsFor }: Renewal,
  nowMillis: number
): Decision => {
  if (!QueryState.isPending(record.state) || !isHeldBy(record, fence)) return unchanged("LeaseLost", record)
  const claim = { ...record.state.claim, fence, expiresAt: DateTime.makeUnsafe(nowMillis + leaseMillis) }
  const state = QueryState.make(record.state._tag, { claim })
  return {
    _tag: "Changed",
    record: {
      ...waitingFor(record, waitsFor),
      state,
      ...(progress === undefined ? undefined : { progress })
    },
    moves: []
  }
}
