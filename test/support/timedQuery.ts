/**
 * A query at the beginning of a timeline.
 */
import { Effect } from "effect"
import { type QueryState, QueryStateMachine, type RedisStore } from "effect-query-state"
import { driveTo, freshKey } from "./queries.ts"
import * as Timeline from "./Timeline.ts"

/** Brings a query into a state, and begins a timeline on which the calls go wrong that are chosen to. */
export const queryThatIs = Effect.fnUntraced(function*(
  tag: QueryState.Tag,
  options: {
    readonly lastStep?: Omit<RedisStore.UnfencedCommand, "event">
    readonly choose?: Timeline.Choose
  } = {}
) {
  const key = yield* freshKey
  const record = yield* driveTo(key, tag, options.lastStep)
  const query = yield* QueryStateMachine.make(key)
  return { key, query, record, timeline: yield* Timeline.begin(options.choose) }
})
