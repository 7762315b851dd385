/** Validates the arguments of a store, and brings them into the form that the stores work with. */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { idIssue, keyIssue } from "../../domain/internal/ids.ts"
import * as Progress from "../../domain/Progress.ts"
import * as QueryEvent from "../../domain/QueryEvent.ts"
import type { DbId, QueryKey } from "../../domain/QueryKey.ts"
import { WaitsFor } from "../../domain/QueryRecord.ts"
import { Reason } from "../../domain/Reason.ts"
import * as Transition from "../../domain/Transition.ts"
import type { Command, Report, ResultAction } from "../../services/RedisStore.ts"
import { InvalidInput } from "../../services/RedisStoreError.ts"

export interface ValidCommand {
  readonly events: NonEmptyReadonlyArray<QueryEvent.QueryEvent>
  readonly fence: number | undefined
  readonly ifVersion: number | undefined
  readonly leaseMillis: number | undefined
  readonly holder: string | undefined
  readonly reason: Reason | undefined
  readonly operation: number | undefined
  readonly traceparent: string | undefined
  readonly timeToLiveMillis: number | undefined
  readonly label: string | undefined
  readonly result: ResultAction | undefined
}

// 2^50 ms are 35,000 years: far enough from 2^53 for every sum with a time to stay an exact integer.
export const maxMillis = 2 ** 50
const maxHolderLength = 256
const maxLabelLength = 1024

export const toMillis = (lease: Duration.Input): number =>
  Option.match(Duration.fromInput(lease), {
    onNone: () => Number.NaN,
    onSome: (duration) => Math.ceil(Duration.toMillis(duration))
  })

export const isMillis = (millis: number): boolean => millis > 0 && millis <= maxMillis

const isTraceparent = (text: string): boolean => /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/.test(text)

const isReason = Schema.is(Reason)

// No path of use is longer than two lives.
const maxPathLength = 16

const isEvent = (event: QueryEvent.QueryEvent): boolean => QueryEvent.all.includes(event)

/** Whether events are a path: a caller without types can pass anything. */
export const isPath = (events: ReadonlyArray<QueryEvent.QueryEvent>): boolean =>
  Array.isArray(events) && events.length >= 1 && events.length <= maxPathLength && events.every(isEvent)

const isResultAction = (result: ResultAction, events: ReadonlyArray<QueryEvent.QueryEvent> = []): boolean => {
  switch (result?._tag) {
    case "Get":
    case "Drop":
      return true
    case "Leave":
      return typeof result.text === "string" && result.text.isWellFormed()
        && ["Finish", "Error"].includes(events.at(-1) ?? "")
    default:
      return false
  }
}

const outcomeEvents: ReadonlyArray<QueryEvent.QueryEvent> = ["Finish", "Error", "Cancel"]

const endsWithOutcome = (events: ReadonlyArray<QueryEvent.QueryEvent> = []): boolean =>
  outcomeEvents.some((event) => event === events.at(-1))

const issueOf = (
  { events, fence, holder, ifVersion, leaseMillis, operation, reason, timeToLiveMillis, traceparent, label, result }:
    Partial<ValidCommand>
): string | undefined => {
  if (leaseMillis !== undefined && !isMillis(leaseMillis)) return "a lease must be longer than zero and finite"
  if (timeToLiveMillis !== undefined) {
    if (!isMillis(timeToLiveMillis)) return "a timeToLive must be longer than zero and finite"
    if (!endsWithOutcome(events)) return `only a path that ends with ${outcomeEvents.join(", ")} takes a timeToLive`
  }
  if (label !== undefined && !(typeof label === "string" && label.length <= maxLabelLength && label.isWellFormed())) {
    return `a label must be well-formed Unicode of at most ${maxLabelLength} characters`
  }
  if (result !== undefined && !isResultAction(result, events)) {
    return "a result must be Get, Drop, or, with Finish or Error, Leave with a text of well-formed Unicode"
  }
  if (ifVersion !== undefined && !Number.isSafeInteger(ifVersion)) return "an expected version must be a whole number"
  if (fence !== undefined && !Number.isSafeInteger(fence)) return "a fence must be a whole number"
  if (reason !== undefined && !isReason(reason)) return "a reason must be a Reason, as its constructors create it"
  if (operation !== undefined && !(Number.isSafeInteger(operation) && operation > 0)) {
    return "an operation must be a whole number above zero"
  }
  if (traceparent !== undefined && !isTraceparent(traceparent)) {
    return "a traceparent must be as W3C Trace Context has it: 00-<trace id>-<span id>-<flags>"
  }
  if (holder === undefined) return undefined
  if (typeof holder !== "string") return "a holder must be a string"
  if (holder.length === 0) return "a holder must not be empty"
  if (holder.length > maxHolderLength) return `a holder must be at most ${maxHolderLength} characters`
  return holder.isWellFormed() ? undefined : "a holder must be well-formed Unicode (it holds a lone surrogate)"
}

const orInvalid = <A extends Partial<ValidCommand>>(command: A): Result.Result<A, InvalidInput> => {
  const issue = issueOf(command)
  return issue === undefined ? Result.succeed(command) : Result.fail(new InvalidInput({ issue }))
}

const invalid = (issue: string) => Result.fail(new InvalidInput({ issue }))

/** Validates the key of a query: a caller without types can pass anything. */
export const validateKey = (key: QueryKey): Result.Result<QueryKey, InvalidInput> => {
  const issue = keyIssue(key)
  return issue === undefined ? Result.succeed(key) : invalid(issue)
}

/** Validates the id of a database likewise. */
export const validateDb = (db: DbId): Result.Result<DbId, InvalidInput> => {
  const issue = idIssue("db", db)
  return issue === undefined ? Result.succeed(db) : invalid(issue)
}

export const validate = (
  { event, fence, holder, ifVersion, lease, label, operation, reason, result, timeToLive, traceparent }: Command
): Result.Result<ValidCommand, InvalidInput> => {
  const events = Transition.eventsOf(event)
  if (!isPath(events)) return invalid(`a path must be 1 to ${maxPathLength} events of ${QueryEvent.all.join(", ")}`)
  return orInvalid({
    events,
    fence,
    ifVersion,
    holder,
    reason,
    operation,
    traceparent,
    label,
    result,
    leaseMillis: lease === undefined ? undefined : toMillis(lease),
    timeToLiveMillis: timeToLive === undefined ? undefined : toMillis(timeToLive)
  })
}

export interface Renewal {
  readonly fence: number
  readonly leaseMillis: number
  readonly progress: Progress.Progress | undefined
  readonly waitsFor: ReadonlyArray<WaitsFor> | undefined
}

const isWaitsFor = Schema.is(Schema.UndefinedOr(Schema.Array(WaitsFor)))

const validateProgress = (progress: Progress.Input | undefined): Result.Result<Renewal["progress"], InvalidInput> =>
  progress === undefined
    ? Result.succeed(undefined)
    : Result.mapError(Progress.make(progress), (error) => new InvalidInput({ issue: error.message }))

export const validateRenewal = (
  fence: number,
  lease: Duration.Input,
  report: Report = {}
): Result.Result<Renewal, InvalidInput> =>
  Result.flatMap(orInvalid({ fence, leaseMillis: toMillis(lease) }), (valid) => {
    if (typeof report !== "object" || report === null) return invalid("a report must be an object")
    const { progress, waitsFor } = report
    return isWaitsFor(waitsFor)
      ? Result.map(validateProgress(progress), (progress) => ({ ...valid, progress, waitsFor }))
      : invalid("waitsFor must be an array of keys and versions")
  })
