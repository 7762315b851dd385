/**
 * The two kinds of work under a claim: a run and a reset.
 */
import { type QueryEvent, QueryState, type QueryStateMachine } from "effect-query-state"

export interface ClaimedWork {
  readonly name: "executing" | "resetting"
  readonly start: (query: QueryStateMachine.QueryStateMachine) => QueryStateMachine.QueryStateMachine["withReset"]
  /** The event that claims the query, the states it is accepted in, and the state it leads to. */
  readonly claims: QueryEvent.QueryEvent
  readonly from: ReadonlyArray<QueryState.Tag>
  readonly during: "Executing" | "Resetting"
  readonly success: Settling
  readonly failure: Settling
  readonly interruption: Settling
}

interface Settling {
  readonly event: QueryEvent.QueryEvent
  readonly to: QueryState.Tag
}

export const executing: ClaimedWork = {
  name: "executing",
  start: (query) => query.withExecution,
  claims: "Execute",
  from: ["Queued"],
  during: "Executing",
  success: { event: "Finish", to: "Completed" },
  failure: { event: "Error", to: "Errored" },
  interruption: { event: "Cancel", to: "Cancelled" }
}

export const resetting: ClaimedWork = {
  name: "resetting",
  start: (query) => query.withReset,
  claims: "Reset",
  from: ["Completed", "Errored", "Cancelled", "ResetFailed"],
  during: "Resetting",
  success: { event: "FinishReset", to: "Known" },
  failure: { event: "Error", to: "ResetFailed" },
  interruption: { event: "Error", to: "ResetFailed" }
}
