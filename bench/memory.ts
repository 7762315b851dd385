/** Bytes that a completed query takes in Redis, compared with those of the reference's layout. */
import { Effect } from "effect"
import { QueryKey, RedisStore } from "effect-query-state"
import type { Redis } from "ioredis"
import { createHash } from "node:crypto"
import type { Row, Scale } from "./Row.ts"
import { Server, StoreLayer } from "./Server.ts"

/** The lifecycle as the reference stores it again for each query: event, from, to. */
const edges = [
  ["QUEUE", "known", "queued"],
  ["EXECUTE", "queued", "executing"],
  ["FINISH", "executing", "completed"],
  ["FINISH_RESET", "resetting", "known"],
  ["CANCEL", "queued", "cancelled"],
  ["CANCEL", "executing", "cancelled"],
  ["RESET", "completed", "resetting"],
  ["RESET", "cancelled", "resetting"],
  ["RESET", "errored", "resetting"],
  ["ERROR", "executing", "errored"]
] as const

const writeReference = (redis: Redis, { db, query }: QueryKey.QueryKey) => {
  const stateKey = `finist:${db}:${query}-state`
  const pipeline = redis.pipeline().set(stateKey, "completed")
  for (const [event, from, to] of edges) pipeline.hset(`${stateKey}:QueryEvent.${event}`, from, to)
  return pipeline.exec()
}

// Ids as long as those that FlowMachine gives.
const keyOf = (index: number) =>
  QueryKey.makeUnsafe({ db: "flowdb", query: createHash("md5").update(`${index}`).digest("hex") })

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const { raw } = yield* Server
  const store = yield* RedisStore.RedisStore
  const keys = Array.from({ length: isQuick ? 1_000 : 50_000 }, (_, index) => keyOf(index))

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
      what: "bytes of a completed query in Redis, against those of the reference",
      measured: `${ours}, against ${reference}: 1/${(reference / ours).toFixed(1)}`,
      toReach: ""
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(StoreLayer, { local: true }))

const life = ["Queue", "Execute", "Finish"] as const
