/**
 * The lifecycle: which event moves a query from which state to which.
 *
 * The types, the functions, the edges in the Redis scripts, and the diagram in the documentation all derive from `table`.
 *
 * @module
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Result from "effect/Result"
import { IllegalTransition } from "./QueryError.ts"
import * as QueryEvent from "./QueryEvent.ts"
import type { QueryRecord } from "./QueryRecord.ts"
import * as QueryState from "./QueryState.ts"
import type { Reason } from "./Reason.ts"

/**
 * The table of the lifecycle: state, event, next state. Every pair that is not in it is refused.
 *
 * @category constants
 * @since 0.1.0
 */
export const table = {
  Known: { Queue: "Queued" },
  Queued: { Execute: "Executing", Cancel: "Cancelled" },
  Executing: { Finish: "Completed", Error: "Errored", Cancel: "Cancelled" },
  Completed: { Reset: "Resetting" },
  Errored: { Reset: "Resetting" },
  Cancelled: { Reset: "Resetting" },
  Resetting: { FinishReset: "Known", Error: "ResetFailed" },
  ResetFailed: { Reset: "Resetting" }
} as const satisfies { readonly [S in QueryState.Tag]: { readonly [E in QueryEvent.QueryEvent]?: QueryState.Tag } }

type Table = typeof table

/**
 * The states in which an event is accepted.
 *
 * @category models
 * @since 0.1.0
 */
export type From<E extends QueryEvent.QueryEvent> = {
  readonly [S in QueryState.Tag]: E extends keyof Table[S] ? S : never
}[QueryState.Tag]

/**
 * The next state after an event; `never` if the state refuses the event.
 *
 * **Example**
 *
 * ```ts
 * import type { Transition } from "effect-query-state"
 *
 * type Run = Transition.Next<"Queued", "Execute"> // "Executing"
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export type Next<S extends QueryState.Tag, E extends QueryEvent.QueryEvent> = S extends QueryState.Tag
  ? E extends keyof Table[S] ? Table[S][E] & QueryState.Tag : never
  : never

/**
 * One edge of the lifecycle.
 *
 * @category models
 * @since 0.1.0
 */
export interface Edge {
  readonly from: QueryState.Tag
  readonly event: QueryEvent.QueryEvent
  readonly to: QueryState.Tag
}

/**
 * The table as a list of edges.
 *
 * @category constants
 * @since 0.1.0
 */
export const edges: ReadonlyArray<Edge> = QueryState.tags.flatMap((from) =>
  QueryEvent.all.flatMap((event) => {
    const to = next(from, event)
    return to === undefined ? [] : [{ from, event, to }]
  })
)

/**
 * Finds the next state after an event, or after a path of events; `undefined` if the state refuses it.
 *
 * @category transitions
 * @since 0.1.0
 */
export function next(from: QueryState.Tag, path: Path): QueryState.Tag | undefined {
  let tag: QueryState.Tag | undefined = from
  for (const event of eventsOf(path)) {
    const row: { readonly [E in QueryEvent.QueryEvent]?: QueryState.Tag } = tag === undefined ? {} : table[tag]
    tag = row[event]
  }
  return tag
}

/**
 * Lists the states in which an event is accepted.
 *
 * @category transitions
 * @since 0.1.0
 */
export const sources = (event: QueryEvent.QueryEvent): ReadonlyArray<QueryState.Tag> =>
  edges.filter((edge) => edge.event === event).map((edge) => edge.from)

/**
 * Creates the error that explains why an event is refused for a query.
 *
 * @category transitions
 * @since 0.1.0
 */
export const refusal = (record: QueryRecord, event: QueryEvent.QueryEvent): IllegalTransition =>
  new IllegalTransition({ from: record.state._tag, event, acceptedIn: sources(event), record })

/**
 * Applies an event to a state, or fails with `IllegalTransition` if the table has no such edge. `data` is the claim or the
 * reason that the next state carries.
 *
 * @category transitions
 * @since 0.1.0
 */
export const apply = (
  state: QueryState.QueryState,
  event: QueryEvent.QueryEvent,
  data?: QueryState.Data
): Result.Result<QueryState.QueryState, IllegalTransition> => {
  const to = next(state._tag, event)
  return to === undefined
    ? Result.fail(new IllegalTransition({ from: state._tag, event, acceptedIn: sources(event) }))
    : Result.succeed(QueryState.make(to, data))
}

/**
 * One event, or several that follow each other and are applied together: all of them, or none.
 *
 * @category models
 * @since 0.1.0
 */
export type Path = QueryEvent.QueryEvent | NonEmptyReadonlyArray<QueryEvent.QueryEvent>

/**
 * Lists the events of a path.
 *
 * @category transitions
 * @since 0.1.0
 */
export function eventsOf(path: Path): NonEmptyReadonlyArray<QueryEvent.QueryEvent> {
  return typeof path === "string" ? [path] : path
}

/**
 * Applies the events of a path to a state one after the other, and lists the states that they lead to. Fails with
 * `IllegalTransition` if the table lacks one of the edges. From `data`, pending states take the claim, and failed states the
 * reason.
 *
 * @category transitions
 * @since 0.1.0
 */
export const applyPath = (
  state: QueryState.QueryState,
  path: Path,
  data?: QueryState.Data
): Result.Result<ReadonlyArray<QueryState.QueryState>, IllegalTransition> => {
  const states: Array<QueryState.QueryState> = []
  let from = state
  for (const event of eventsOf(path)) {
    const applied = apply(from, event, data)
    if (Result.isFailure(applied)) return Result.fail(applied.failure)
    states.push(applied.success)
    from = applied.success
  }
  return Result.succeed(states)
}

/**
 * Counts the attempts of a query after an event: see `QueryRecord.attempts`. `reason` is that of the event.
 *
 * @category transitions
 * @since 0.1.0
 */
export const attemptsAfter = (
  attempts: number,
  event: QueryEvent.QueryEvent,
  from: QueryState.Tag,
  reason?: Reason | undefined
): number => {
  switch (event) {
    case "Execute":
      return attempts + 1
    case "Finish":
      return 0
    case "Cancel":
      return from === "Executing" && reason?._tag === "Interrupted" ? Math.max(attempts - 1, 0) : attempts
    default:
      return attempts
  }
}

/**
 * Counts the attempts of a query after the lapse of a lease: see `QueryRecord.attempts`.
 *
 * @category transitions
 * @since 0.1.0
 */
export const attemptsAfterLapse = (attempts: number, from: QueryState.Tag): number =>
  from === "Resetting" ? attempts + 1 : attempts

/**
 * Event that makes a pending query determinate when its lease lapses.
 *
 * @category constants
 * @since 0.1.0
 */
export const lapseEvents = {
  Queued: "Cancel",
  Executing: "Error",
  Resetting: "Error"
} as const satisfies { readonly [S in QueryState.Pending["_tag"]]: keyof Table[S] }

/**
 * Event that is accepted without the fence of the claim: anybody can cancel a query.
 *
 * @category constants
 * @since 0.1.0
 */
export const openEvent = "Cancel" satisfies QueryEvent.QueryEvent

const step =
  <E extends QueryEvent.QueryEvent>(event: E) =>
  <S extends From<E>>(state: QueryState.Of<S>, data?: QueryState.Data): QueryState.Of<Next<S, E>> =>
    Result.getOrThrow(apply(state, event, data)) as QueryState.Of<Next<S, E>>

/**
 * Moves a Known query to Queued.
 *
 * @category steps
 * @since 0.1.0
 */
export const enqueue = step("Queue")

/**
 * Moves a Queued query to Executing.
 *
 * @category steps
 * @since 0.1.0
 */
export const execute = step("Execute")

/**
 * Moves an Executing query to Completed.
 *
 * @category steps
 * @since 0.1.0
 */
export const finish = step("Finish")

/**
 * Moves an Executing query to Errored, and a Resetting one to ResetFailed.
 *
 * @category steps
 * @since 0.1.0
 */
export const raiseError = step("Error")

/**
 * Moves a Queued or Executing query to Cancelled.
 *
 * @category steps
 * @since 0.1.0
 */
export const cancel = step("Cancel")

/**
 * Moves a Completed, Errored, Cancelled or ResetFailed query to Resetting.
 *
 * @category steps
 * @since 0.1.0
 */
export const reset = step("Reset")

/**
 * Moves a Resetting query to Known.
 *
 * @category steps
 * @since 0.1.0
 */
export const finishResetting = step("FinishReset")

/**
 * Draws the table as a Mermaid state diagram.
 *
 * @category formatting
 * @since 0.1.0
 */
export const toMermaid = (): string =>
  [
    "stateDiagram-v2",
    "    direction LR",
    `    [*] --> ${QueryState.known._tag}`,
    ...edges.map(({ event, from, to }) => `    ${from} --> ${to}: ${event}`),
    "    classDef pending stroke-dasharray: 5 5",
    `    class ${QueryState.tags.filter((tag) => QueryState.isPending(QueryState.make(tag))).join(",")} pending`
  ].join("\n")
