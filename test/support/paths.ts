/** The paths by which a state is followed by another one: an event, or several that `run` takes in one command. */
import { QueryEvent, type QueryState, Transition } from "effect-query-state"

export const pathsOfRun: ReadonlyArray<Transition.Path> = [
  ...QueryEvent.all,
  ["Queue", "Execute"],
  ["FinishReset", "Queue", "Execute"],
  ["Reset", "FinishReset", "Queue", "Execute"]
]

export const pathBetween = (from: QueryState.Tag, to: QueryState.Tag): Transition.Path | undefined =>
  pathsOfRun.find((path) => Transition.next(from, path) === to)
