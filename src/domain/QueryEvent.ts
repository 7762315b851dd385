/**
 * Events that move a query from one state to another.
 *
 * @module
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * Schema for events.
 *
 * @category schemas
 * @since 0.1.0
 */
export const QueryEvent = Schema.Literals(["Queue", "Execute", "Finish", "Error", "Cancel", "Reset", "FinishReset"])

/**
 * Event that can move a query to another state; `Transition.table` says which state accepts it.
 *
 * @category models
 * @since 0.1.0
 */
export type QueryEvent = typeof QueryEvent.Type

/**
 * All events, in the order of the lifecycle.
 *
 * @category constants
 * @since 0.1.0
 */
export const all: ReadonlyArray<QueryEvent> = QueryEvent.literals

/**
 * Names of the events in Redis.
 *
 * @category constants
 * @since 0.1.0
 */
export const wireNames = {
  Queue: "queue",
  Execute: "execute",
  Finish: "finish",
  Error: "error",
  Cancel: "cancel",
  Reset: "reset",
  FinishReset: "finish_resetting"
} as const satisfies Record<QueryEvent, string>

const eventsByWireName = new Map<string, QueryEvent>(all.map((event) => [wireNames[event], event]))

/**
 * Finds the event with the given name in Redis, or `undefined`.
 *
 * @category constants
 * @since 0.1.0
 */
export const fromWireName = (name: string): QueryEvent | undefined => eventsByWireName.get(name)
