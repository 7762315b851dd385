/** FlowMachine's protocol through plain ioredis: exactly the commands that it sends, in the same order. */
import type { QueryKey } from "effect-query-state"
import type { Redis } from "ioredis"
import { edges, type Event, triggerScript } from "../test/support/ReferenceMachine.ts"

const stateKeyOf = ({ db, query }: QueryKey.QueryKey) => `finist:${db}:${query}-state`

/** Makes the machine of a new query. */
export const make = async (redis: Redis, key: QueryKey.QueryKey): Promise<void> => {
  const stateKey = stateKeyOf(key)
  await redis.get(stateKey)
  await redis.setnx(stateKey, "known")
  // oxlint-disable-next-line no-await-in-loop -- FlowMachine waits for each of them
  for (const [event, from, to] of edges) await redis.hset(`${stateKey}:QueryEvent.${event}`, from, to)
}

export const trigger = (redis: Redis, key: QueryKey.QueryKey, event: Event): Promise<unknown> => {
  const stateKey = stateKeyOf(key)
  return redis.eval(triggerScript, 2, stateKey, `${stateKey}:QueryEvent.${event}`)
}

/** The life of a new query, until it is completed. */
export const live = async (redis: Redis, key: QueryKey.QueryKey): Promise<void> => {
  await make(redis, key)
  await trigger(redis, key, "QUEUE")
  await trigger(redis, key, "EXECUTE")
  await trigger(redis, key, "FINISH")
}
