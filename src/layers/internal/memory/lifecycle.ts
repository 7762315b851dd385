/** What the scripts do, as pure functions on a record: the lifecycle with its leases, fences and versions. */
import * as DateTime from "effect/DateTime"
import type { QueryEvent } from "../../../domain/QueryEvent.ts"
import type { QueryRecord } from "../../../domain/QueryRecord.ts"
import * as QueryState from "../../../domain/QueryState.ts"
import * as Reason from "../../../domain/Reason.ts"
import * as Transition from "../../../domain/Transition.ts"
import type { Checked, Renewal } from "../command.ts"

/** What becomes of a command, and the record as it stands afterwards. */
export interface Decision {
  readonly _tag: "Changed" | "Refused" | "LeaseLost"
  readonly record: QueryRecord
}

const nextVersion = (record: QueryRecord, nowMillis: number): number => Math.max(record.version + 1, nowMillis * 1000)

const move = (record: QueryRecord, to: QueryState.Tag, nowMillis: number, data: {
  readonly leaseMillis?: number | undefined
  readonly holder?: string | undefined
  readonly reason?: Reason.Reason | undefined
  readonly traceparent?: string | undefined
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
    changedAt: DateTime.makeUnsafe(nowMillis),
    ...traceparentOf(QueryState.isPending(QueryState.make(to)) ? data : record)
  }
}

const traceparentOf = ({ traceparent }: { readonly traceparent?: string | undefined }) =>
  traceparent === undefined ? undefined : { traceparent }

/** The event that ends a claim whose lease has lapsed, and the record afterwards; nothing for any other record. */
export const settle = (
  record: QueryRecord,
  nowMillis: number
): { readonly event: QueryEvent; readonly record: QueryRecord } | undefined => {
  if (!QueryState.isPending(record.state)) return undefined
  const { claim } = record.state
  if (claim?.expiresAt === undefined || nowMillis < DateTime.toEpochMillis(claim.expiresAt)) return undefined
  const event = Transition.lapseEvents[record.state._tag]
  const to = Transition.next(record.state._tag, event)
  return to === undefined
    ? undefined
    : { event, record: move(record, to, nowMillis, { reason: Reason.leaseExpired(claim.holder) }) }
}

const isOthers = (record: QueryRecord, event: QueryEvent): boolean =>
  event !== Transition.openEvent && QueryState.claimOf(record.state)?.expiresAt !== undefined

// Nobody claimed a query that has no record, so its version is nobody's fence.
const isHeldBy = ({ version }: QueryRecord, fence: number): boolean => version === fence && version > 0

/** Decides a command on a settled record. */
export const decide = (record: QueryRecord, command: Checked, nowMillis: number): Decision => {
  if (command.fence !== undefined && !isHeldBy(record, command.fence)) return { _tag: "LeaseLost", record }
  const to = Transition.next(record.state._tag, command.event)
  if (to === undefined || (command.fence === undefined && isOthers(record, command.event))) {
    return { _tag: "Refused", record }
  }
  return { _tag: "Changed", record: move(record, to, nowMillis, command) }
}

/** Decides a renewal on a settled record. */
export const renew = (
  record: QueryRecord,
  { fence, leaseMillis, progress }: Renewal,
  nowMillis: number
): Decision => {
  if (!QueryState.isPending(record.state) || !isHeldBy(record, fence)) return { _tag: "LeaseLost", record }
  const claim = { ...record.state.claim, fence, expiresAt: DateTime.makeUnsafe(nowMillis + leaseMillis) }
  const state = QueryState.make(record.state._tag, { claim })
  return { _tag: "Changed", record: { ...record, state, ...(progress === undefined ? undefined : { progress }) } }
}
