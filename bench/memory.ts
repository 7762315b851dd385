/** Bytes that a completed query takes in Redis, compared with FlowMachine's layout. */
import { Effect } from "effect"
import { type QueryKey, RedisStore } from "effect-query-state"
import type { Redis } from "ioredis"
import { edges } from "../test/support/ReferenceMachine.ts"
import { freshKeys } from "./alternate.ts"
import type { Row, Scale } from "./Row.ts"
import { Server, StoreLayer } from "./Server.ts"

const writeReference = (redis: Redis, { db, query }: QueryKey.QueryKey) => {
  const stateKey = `finist:${db}:${query}-state`
  const pipeline = redis.pipeline().set(stateKey, "completed")
  for (const [event, from, to] of edges) pipeline.hset(`${stateKey}:QueryEvent.${event}`, from, to)
  return pipeline.exec()
}

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const { raw } = yield* Server
  const store = yield* RedisStore.RedisStore
  const keys = freshKeys(isQuick ? 1_000 : 100_000)

  const usedMemory = Effect.map(
    Effect.promise(() => raw.info("memory")),
    (text) => Number(/^used_memory:(\d+)/m.exec(text)?.[1])
  )
  const bytesEach = <E, R>(write: Effect.Effect<unknown, E, R>) =>
    Effect.gen(function*() {
      const before = yield* usedMemory
      yield* write
      return Math.round(((yield* usedMemory) - before) / keys.length)
    })

  const ours = yield* bytesEach(
    Effect.forEach(life, (event) => store.compareAndSetMany(keys.map((key) => [key, { event }])))
  )
  const reference = yield* bytesEach(
    Effect.forEach(keys, (key) => Effect.promise(() => writeReference(raw, key)), { concurrency: 100, discard: true })
  )
  return [
    {
      name: "memory",
      figures: { ours, reference, ratio: reference / ours },
      what: "bytes of a completed query in Redis, against FlowMachine's keys",
      measured: `${ours}, against ${reference}: 1/${(reference / ours).toFixed(1)}`,
      toReach: "1/9 or less",
      isReached: ours * 9 <= reference
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))

const life = ["Queue", "Execute", "Finish"] as const
