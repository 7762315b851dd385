/**
 * Queries in a Redis cluster. The primaries share the queries, and everything of one query is on one primary.
 *
 *     REDIS_CLUSTER_NODES=redis://localhost:7000,redis://localhost:7001 npx tsx examples/cluster.ts
 *     npx tsx test/support/withCluster.ts npx tsx examples/cluster.ts    # starts and stops a cluster
 */
import { Config, Console, Effect, Layer, Ref, Schema } from "effect"
import { QueryFleet, QueryKey, QueryStateMachine, RedisStoreLive } from "effect-query-state"
import { db, leavingNoTrace, prefix } from "./support/StoreLayer.ts"

const main = Effect.gen(function*() {
  const names = Array.from({ length: 60 }, (_, index) => `day ${index + 1}`)
  const keys = yield* Effect.forEach(names, (query) => QueryKey.make({ db, query }))
  const runs = yield* Ref.make(0)

  const compute = Effect.fnUntraced(function*(key: QueryKey.QueryKey) {
    const query = yield* QueryStateMachine.make(key)
    return yield* query.run({
      execute: () => Effect.as(Ref.update(runs, (n) => n + 1), `rows of ${key.query}`),
      result: Effect.succeedSome(`rows of ${key.query}`)
    })
  })
  // Three fibers want each query: one computes it, and two wait, on the server that has the query.
  yield* Effect.forEach([...keys, ...keys, ...keys], compute, { concurrency: "unbounded", discard: true })
  yield* Console.log(`${keys.length} queries were computed ${yield* Ref.get(runs)} times`)

  // Bulk operations are split by server.
  const fleet = yield* QueryFleet.make
  const { Completed } = yield* fleet.summary(keys)
  yield* Console.log(`${Completed} are completed`)
})

const ClusterLayer = Layer.unwrap(
  Effect.map(Config.Array(Schema.URLFromString, "REDIS_CLUSTER_NODES"), (urls) =>
    // Some of the nodes are enough: the client finds the others.
    RedisStoreLive.layerCluster({
      prefix,
      nodes: urls.map(({ hostname, port }) => ({ host: hostname, port: Number(port) }))
    }))
)

const complain = Effect.andThen(
  Console.error("REDIS_CLUSTER_NODES must name servers of a cluster. The first lines of this file show how."),
  Effect.sync(() => {
    process.exitCode = 1
  })
)

await Effect.runPromise(main.pipe(
  Effect.provide(leavingNoTrace(ClusterLayer)),
  Effect.catchTag("ConfigError", () => complain)
))

/* Prints:

60 queries were computed 60 times
60 are completed
*/
