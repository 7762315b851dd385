/**
 * The reference's protocol, from `flowmachine-facts.md` alone, holes and all: to show each hole, and that this library
 * does not have it.
 */
import { Effect } from "effect"
import type { QueryKey } from "effect-query-state"
import type { Redis } from "ioredis"

/** Event, from-state, to-state. */
export const edges = [
  ["QUEUE", "known", "queued"],
  ["EXECUTE", "queued", "executing"],
  ["FINISH", "executing", "completed"],
  ["ERROR", "executing", "errored"],
  ["CANCEL", "queued", "cancelled"],
  ["CANCEL", "executing", "cancelled"],
  ["RESET", "completed", "resetting"],
  ["RESET", "errored", "resetting"],
  ["RESET", "cancelled", "resetting"],
  ["FINISH_RESET", "resetting", "known"]
] as const

export type Event = (typeof edges)[number][0]

// KEYS: state, hash of the event. Answers the state, and 1 where this call led to it.
export const triggerScript = `
local state = redis.call("GET", KEYS[1])
local next = redis.call("HGET", KEYS[2], state)
if not next then return { state, false } end
redis.call("SET", KEYS[1], next)
return { next, 1 }
`

export interface ReferenceMachine {
  readonly stateKey: string
  readonly currentState: Effect.Effect<string | null>
  readonly trigger: (event: Event) => Effect.Effect<{ readonly state: string; readonly changed: boolean }>
  /** Waits as the reference does. `beforeLook` runs before each read and gets the number of earlier reads. */
  readonly waitUntilComplete: (
    sleepMillis: number,
    beforeLook?: (looks: number) => Effect.Effect<unknown>
  ) => Effect.Effect<void>
}

export const make = Effect.fnUntraced(function*(redis: Redis, { db, query }: QueryKey.QueryKey) {
  const stateKey = `finist:${db}:${query}-state`
  const hashOf = (event: Event) => `${stateKey}:QueryEvent.${event}`

  const found = yield* Effect.promise(() => redis.get(stateKey))
  yield* Effect.promise(() => redis.setnx(stateKey, "known"))
  if (found === null) {
    for (const [event, from, to] of edges) yield* Effect.promise(() => redis.hset(hashOf(event), from, to))
  }

  const currentState = Effect.promise(() => redis.get(stateKey))

  const trigger: ReferenceMachine["trigger"] = (event) =>
    Effect.map(Effect.promise(() => redis.eval(triggerScript, 2, stateKey, hashOf(event))), (reply) => {
      const [state, changed] = reply as [string, 1 | null]
      return { state, changed: changed === 1 }
    })

  const waitUntilComplete: ReferenceMachine["waitUntilComplete"] = Effect.fnUntraced(
    function*(sleepMillis, beforeLook = () => Effect.void) {
      let looks = 0
      const is = Effect.fnUntraced(function*(state: string) {
        yield* beforeLook(looks)
        looks += 1
        return (yield* currentState) === state
      })
      while ((yield* is("executing")) || (yield* is("queued")) || (yield* is("resetting"))) {
        yield* Effect.sleep(sleepMillis)
      }
    }
  )

  return { stateKey, currentState, trigger, waitUntilComplete } satisfies ReferenceMachine
})
