/** How a cluster of three primaries shares a load. */
import { Effect, Fiber } from "effect"
import { QueryStateMachine, RedisStore, RedisStoreLive } from "effect-query-state"
import * as RedisCluster from "../test/support/RedisCluster.ts"
import { freshKeys } from "./alternate.ts"
import type { Row, Scale } from "./Row.ts"
import { count } from "./statistics.ts"

const life = ["Queue", "Execute", "Finish"] as const

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const cluster = yield* RedisCluster.acquire()
  const keys = freshKeys(isQuick ? 300 : 6_000)

  const readOf = (section: Array<string>, pattern: RegExp) =>
    Effect.forEach(
      cluster.primaries,
      ({ admin }) =>
        Effect.map(Effect.promise(() => admin.call(...section as [string])), (text) =>
          Number(pattern.exec(`${text}`)?.[1] ?? 0))
    )
  const scripts = readOf(["INFO", "commandstats"], /cmdstat_evalsha:calls=(\d+)/)
  const published = readOf(["CLUSTER", "INFO"], /cluster_stats_messages_publish_sent:(\d+)/)

  const [first] = cluster.primaries
  const node = { host: `${first?.server.host}`, port: Number(first?.server.port) }
  yield* Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const all = (event: (typeof life)[number]) =>
      Effect.forEach(keys, (key) => store.compareAndSet(key, { event }), { concurrency: 256 })
    const [queue, ...rest] = life
    yield* all(queue)
    const waits = yield* Effect.forEach(
      keys,
      (key) => Effect.flatMap(QueryStateMachine.make(key), (query) => Effect.forkChild(query.waitUntilComplete()))
    )
    yield* Effect.forEach(rest, all)
    yield* Fiber.joinAll(waits)
  }).pipe(Effect.provide(RedisStoreLive.layerCluster({ nodes: [node] })))

  const calls = yield* scripts
  const messages = (yield* published).reduce((sum, sent) => sum + sent, 0)
  const share = Math.max(...calls) / calls.reduce((sum, called) => sum + called, 0)
  return [
    {
      name: "cluster",
      figures: { share, crossNodeMessages: messages },
      what: "share of the busiest of three primaries in all commands; messages from node to node",
      measured: `${(share * 100).toFixed(1)} % (${calls.map(count).join(", ")}), ${messages}`,
      toReach: "one third, 0",
      isReached: share < 0.36 && messages === 0
    }
  ] satisfies ReadonlyArray<Row>
})
