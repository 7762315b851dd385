/** Queries in the Redis that the tests share, as FlowMachine has them, and as it moves them. */
import { Context, Effect, Layer } from "effect"
import type { QueryEvent, QueryKey, QueryState } from "effect-query-state"
import type { Redis } from "ioredis"
import { inject } from "vitest"
import { pathTo } from "./queries.ts"
import * as RedisAdmin from "./RedisAdmin.ts"
import type * as ReferenceMachine from "./ReferenceMachine.ts"
import * as ReferenceProcess from "./ReferenceProcess.ts"

/** What FlowMachine calls the events. */
export const members: Readonly<Record<QueryEvent.QueryEvent, ReferenceMachine.Event>> = {
  Queue: "QUEUE",
  Execute: "EXECUTE",
  Finish: "FINISH",
  Error: "ERROR",
  Cancel: "CANCEL",
  Reset: "RESET",
  FinishReset: "FINISH_RESET"
}

export const stateKey = ({ db, query }: QueryKey.QueryKey): string => `finist:${db}:${query}-state`
export const recordKey = (key: QueryKey.QueryKey): string => `query-state:${stateKey(key)}`

export const withAdmin = <A>(f: (admin: Redis) => Promise<A>): Effect.Effect<A> =>
  Effect.scoped(Effect.flatMap(RedisAdmin.connect(inject("redisUrl")), (admin) => Effect.promise(() => f(admin))))

/** The stand-in of FlowMachine on that Redis, as a separate process. */
export class StandIn extends Context.Service<StandIn, ReferenceProcess.Reference>()("test/support/shared/StandIn") {
  static readonly layer = Layer.effect(StandIn, ReferenceProcess.spawn(inject("redisUrl")))
}

/** A machine of the reference. */
export const makeReference = (key: QueryKey.QueryKey): Effect.Effect<ReferenceProcess.Machine, never, StandIn> =>
  StandIn.use((reference) => reference.make(key))

/** Lets the reference bring a query that it knows into a state. */
export const driveReference = Effect.fnUntraced(function*(machine: ReferenceProcess.Machine, tag: QueryState.Tag) {
  for (const event of pathTo(tag)) yield* machine.trigger(members[event])
})

/** All keys of FlowMachine for a query: suffix after the name of the state key, content and time to live. */
export const stored = (
  key: QueryKey.QueryKey
): Effect.Effect<ReadonlyArray<readonly [suffix: string, content: unknown, ttl: number]>> =>
  withAdmin(async (admin) => {
    const names = (await admin.keys(`${stateKey(key)}*`)).toSorted()
    return Promise.all(names.map(async (name) => {
      const content = name === stateKey(key) ? await admin.get(name) : await admin.hgetall(name)
      return [name.slice(stateKey(key).length), content, await admin.pttl(name)] as const
    }))
  })
