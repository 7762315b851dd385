/** Validates the arguments of a store, and brings them into the form that the stores work with. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { idIssue, keyIssue } from "../../domain/internal/ids.ts"
import { quote } from "../../domain/internal/printable.ts"
import * as Progress from "../../domain/Progress.ts"
import { all as events, type QueryEvent } from "../../domain/QueryEvent.ts"
import type { DbId, QueryKey } from "../../domain/QueryKey.ts"
import { Reason } from "../../domain/Reason.ts"
import type { Command } from "../../services/RedisStore.ts"
import { InvalidInput } from "../../services/RedisStoreError.ts"

export interface Checked {
  readonly event: QueryEvent
  readonly fence: number | undefined
  readonly leaseMillis: number | undefined
  readonly holder: string | undefined
  readonly reason: Reason | undefined
  readonly traceparent: string | undefined
}

// 2^50 ms are 35,000 years: far enough from 2^53 for every sum with a time to stay an exact integer.
export const maxMillis = 2 ** 50
const maxHolderLength = 256

export const toMillis = (lease: Duration.Input): number =>
  Option.match(Duration.fromInput(lease), {
    onNone: () => Number.NaN,
    onSome: (duration) => Math.ceil(Duration.toMillis(duration))
  })

const isTraceparent = (text: string): boolean => /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/.test(text)

const isReason = Schema.is(Reason)

const issueOf = ({ fence, holder, leaseMillis, reason, traceparent }: Partial<Checked>): string | undefined => {
  if (leaseMillis !== undefined && !(leaseMillis > 0 && leaseMillis <= maxMillis)) {
    return "a lease must be longer than zero and finite"
  }
  if (fence !== undefined && !Number.isSafeInteger(fence)) return "a fence must be a whole number"
  if (reason !== undefined && !isReason(reason)) return "a reason must be a Reason, as its constructors create it"
  if (traceparent !== undefined && !isTraceparent(traceparent)) {
    return "a traceparent must be as W3C Trace Context has it: 00-<trace id>-<span id>-<flags>"
  }
  if (holder === undefined) return undefined
  if (typeof holder !== "string") return "a holder must be a string"
  if (holder.length === 0) return "a holder must not be empty"
  if (holder.length > maxHolderLength) return `a holder must be at most ${maxHolderLength} characters`
  return holder.isWellFormed() ? undefined : "a holder must be well-formed Unicode (it holds a lone surrogate)"
}

const orInvalid = <A extends Partial<Checked>>(checked: A): Result.Result<A, InvalidInput> => {
  const issue = issueOf(checked)
  return issue === undefined ? Result.succeed(checked) : Result.fail(new InvalidInput({ issue }))
}

const invalid = (issue: string) => Result.fail(new InvalidInput({ issue }))

/** Validates the key of a query: a caller without types can pass anything. */
export const checkKey = (key: QueryKey): Result.Result<QueryKey, InvalidInput> => {
  const issue = keyIssue(key)
  return issue === undefined ? Result.succeed(key) : invalid(issue)
}

/** Validates the id of a database likewise. */
export const checkDb = (db: DbId): Result.Result<DbId, InvalidInput> => {
  const issue = idIssue("db", db)
  return issue === undefined ? Result.succeed(db) : invalid(issue)
}

export const isEvent = (event: unknown): event is QueryEvent => events.some((known) => known === event)

export const check = (
  { event, fence, holder, lease, reason, traceparent }: Command
): Result.Result<Checked, InvalidInput> => {
  if (!isEvent(event)) return invalid(`${quote(event, 100)} is no event: use ${events.join(", ")}`)
  return orInvalid({
    event,
    fence,
    holder,
    reason,
    traceparent,
    leaseMillis: lease === undefined ? undefined : toMillis(lease)
  })
}

export interface Renewal {
  readonly fence: number
  readonly leaseMillis: number
  readonly progress: Progress.Progress | undefined
}

const checkProgress = (progress: Progress.Input | undefined): Result.Result<Renewal["progress"], InvalidInput> =>
  progress === undefined
    ? Result.succeed(undefined)
    : Result.mapError(Progress.make(progress), (error) => new InvalidInput({ issue: error.message }))

export const checkRenewal = (
  fence: number,
  lease: Duration.Input,
  progress: Progress.Input | undefined
): Result.Result<Renewal, InvalidInput> =>
  Result.flatMap(
    orInvalid({ fence, leaseMillis: toMillis(lease) }),
    (checked) => Result.map(checkProgress(progress), (progress) => ({ ...checked, progress }))
  )
