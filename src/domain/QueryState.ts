/**
 * States of a query.
 *
 * @module
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Reason from "./Reason.ts"

/**
 * Schema for claims.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Claim = Schema.Struct({
  fence: Schema.Int,
  holder: Schema.optionalKey(Schema.String),
  expiresAt: Schema.optionalKey(Schema.DateTimeUtc)
})

/**
 * Claim on a pending query: its holder and its lease.
 *
 * **Details**
 *
 * - `fence`: the fencing token, which is the version of the record at the time of the claim. No other claim on this query
 *   ever gets the same fence.
 * - `holder`: name of the holder. Absent if it gave none.
 * - `expiresAt`: when the lease lapses, by the clock of the store. Absent if the claim has no lease and never lapses.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim extends Schema.Schema.Type<typeof Claim> {}

const Cases = Schema.TaggedUnion({
  Known: {},
  Queued: { claim: Schema.optionalKey(Claim) },
  Executing: { claim: Schema.optionalKey(Claim) },
  Completed: {},
  Errored: { reason: Reason.Reason },
  Cancelled: { reason: Reason.Reason },
  Resetting: { claim: Schema.optionalKey(Claim) },
  ResetFailed: { reason: Reason.Reason }
})

/**
 * Schema for query states.
 *
 * @category schemas
 * @since 0.1.0
 */
export const QueryState = Cases.pipe(Schema.brand("effect-query-state/QueryState"))

/**
 * State of one query: a branded tagged union. A `switch` on `_tag` is exhaustive, and a plain object is not a state.
 *
 * @category models
 * @since 0.1.0
 */
export type QueryState = typeof QueryState.Type

/**
 * Name of a state.
 *
 * @category models
 * @since 0.1.0
 */
export type Tag = QueryState["_tag"]

/**
 * State with the given name.
 *
 * @category models
 * @since 0.1.0
 */
export type Of<T extends Tag> = Extract<QueryState, { readonly _tag: T }>

/**
 * State in which the query has not been run, or was reset.
 *
 * @category models
 * @since 0.1.0
 */
export type Known = Of<"Known">

/**
 * State in which the query is going to be run.
 *
 * @category models
 * @since 0.1.0
 */
export type Queued = Of<"Queued">

/**
 * State in which the query is being run.
 *
 * @category models
 * @since 0.1.0
 */
export type Executing = Of<"Executing">

/**
 * State in which the query ran and its result exists.
 *
 * @category models
 * @since 0.1.0
 */
export type Completed = Of<"Completed">

/**
 * State in which the query ran and failed.
 *
 * @category models
 * @since 0.1.0
 */
export type Errored = Of<"Errored">

/**
 * State in which the query was cancelled before it finished.
 *
 * @category models
 * @since 0.1.0
 */
export type Cancelled = Of<"Cancelled">

/**
 * State in which the results of an earlier run are being removed.
 *
 * @category models
 * @since 0.1.0
 */
export type Resetting = Of<"Resetting">

/**
 * State in which the removal of those results failed.
 *
 * @category models
 * @since 0.1.0
 */
export type ResetFailed = Of<"ResetFailed">

/**
 * State in which others must wait: Queued, Executing or Resetting.
 *
 * @category models
 * @since 0.1.0
 */
export type Pending = Queued | Executing | Resetting

/**
 * State whose outcome is decided: every state that is not pending.
 *
 * @category models
 * @since 0.1.0
 */
export type Determinate = Exclude<QueryState, Pending>

/**
 * State in which the query ended without a result.
 *
 * @category models
 * @since 0.1.0
 */
export type Failed = Errored | Cancelled | ResetFailed

/**
 * Data that some states carry.
 *
 * @category models
 * @since 0.1.0
 */
export interface Data {
  readonly claim?: Claim | undefined
  readonly reason?: Reason.Reason | undefined
}

/**
 * Names of all states, in the order of the lifecycle.
 *
 * @category constants
 * @since 0.1.0
 */
export const tags: ReadonlyArray<Tag> = Object.keys(Cases.cases) as Array<Tag>

/**
 * Names of the states in Redis.
 *
 * @category constants
 * @since 0.1.0
 */
export const wireNames = {
  Known: "known",
  Queued: "queued",
  Executing: "executing",
  Completed: "completed",
  Errored: "errored",
  Cancelled: "cancelled",
  Resetting: "resetting",
  ResetFailed: "reset_failed"
} as const satisfies Record<Tag, string>

const tagsByWireName = new Map<string, Tag>(tags.map((tag) => [wireNames[tag], tag]))

/**
 * Finds the state that has a name in Redis; `undefined` where no state has it.
 *
 * @category constants
 * @since 0.1.0
 */
export const fromWireName = (name: string): Tag | undefined => tagsByWireName.get(name)

/**
 * Descriptions of the states for people, to follow "the query".
 *
 * @category formatting
 * @since 0.1.0
 */
export const descriptions: Readonly<Record<Tag, string>> = {
  Known: "is known, but has not yet been run",
  Queued: "is queued",
  Executing: "is currently running",
  Completed: "is ready",
  Errored: "finished with an error",
  Cancelled: "was cancelled",
  Resetting: "is being reset",
  ResetFailed: "could not be reset"
}

/**
 * The initial state. A query without a record is Known.
 *
 * @category constructors
 * @since 0.1.0
 */
export const known: Known = QueryState.make({ _tag: "Known" }) as Known

/**
 * The state of a query that ran successfully.
 *
 * @category constructors
 * @since 0.1.0
 */
export const completed: Completed = QueryState.make({ _tag: "Completed" }) as Completed

// States with data are written out: each copy of a constant would get a hidden class of its own from V8, 144 bytes a state.

const pending = <T extends Pending["_tag"]>(tag: T) => {
  const unclaimed = QueryState.make({ _tag: tag }) as Of<T>
  return (data: Data | undefined): Of<T> =>
    data?.claim === undefined ? unclaimed : { _tag: tag, claim: data.claim } as unknown as Of<T>
}

const failed = <T extends Failed["_tag"]>(tag: T) => {
  const unexplained = QueryState.make({ _tag: tag, reason: Reason.unrecorded }) as Of<T>
  return (data: Data | undefined): Of<T> =>
    data?.reason === undefined ? unexplained : { _tag: tag, reason: data.reason } as unknown as Of<T>
}

const constructors: { readonly [T in Tag]: (data: Data | undefined) => Of<T> } = {
  Known: () => known,
  Queued: pending("Queued"),
  Executing: pending("Executing"),
  Completed: () => completed,
  Errored: failed("Errored"),
  Cancelled: failed("Cancelled"),
  Resetting: pending("Resetting"),
  ResetFailed: failed("ResetFailed")
}

/**
 * Creates the state with the given name.
 *
 * **Details**
 *
 * From `data`, pending states take `claim` (default: none) and failed states take `reason` (default: `Unrecorded`). The rest
 * is ignored.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <T extends Tag>(tag: T, data?: Data): Of<T> => constructors[tag](data)

/**
 * Checks whether others must wait: the query is Queued, Executing or Resetting.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isPending = (self: QueryState): self is Pending =>
  self._tag === "Queued" || self._tag === "Executing" || self._tag === "Resetting"

/**
 * Checks whether the outcome is decided: the query is not pending.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isDeterminate = (self: QueryState): self is Determinate => !isPending(self)

/**
 * Returns the claim on a query, or `undefined` if there is none.
 *
 * @category getters
 * @since 0.1.0
 */
export const claimOf = (self: QueryState): Claim | undefined => isPending(self) ? self.claim : undefined

/**
 * Formats a state for people, with its reason if one was recorded.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (self: QueryState): string =>
  "reason" in self && self.reason._tag !== "Unrecorded"
    ? `${descriptions[self._tag]} (${Reason.format(self.reason)})`
    : descriptions[self._tag]
