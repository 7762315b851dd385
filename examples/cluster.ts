/**
 * Queries in a Redis cluster: spread over its primaries, each with all that belongs to it on one, and otherwise the same.
 *
 *     REDIS_CLUSTER_NODES=redis://localhost:7000,redis://localhost:7001 npx tsx examples/cluster.ts
 *     npx tsx test/support/withCluster.ts npx tsx examples/cluster.ts    # in a cluster that it starts and stops
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
    return yield* query.run({ execute: () => Ref.update(runs, (n) => n + 1), onCompleted: Effect.void })
  })
  // Each is wanted three times: one computes it, and two wait, on the one server that has it.
  yield* Effect.forEach([...keys, ...keys, ...keys], compute, { concurrency: "unbounded", discard: true })
  yield* Console.log(`${keys.length} queries were computed ${yield* Ref.get(runs)} times`)

  // What is asked of many goes to each server for those that are its own.
  const fleet = yield* QueryFleet.make
  const { Completed } = yield* fleet.summary(keys)
  yield* Console.log(`${Completed} are completed`)
})

const ClusterLayer = Layer.unwrap(
  Effect.map(Config.Array(Schema.URLFromString, "REDIS_CLUSTER_NODES"), (urls) =>
    // Some of the nodes are enough: the others are found from them.
    RedisStoreLive.layerCluster({
      prefix,
      nodes: urls.map(({ hostname, port }) => ({ host: hostname, port: Number(port) }))
    }))
)

const complain = Effect.andThen(
  Console.error("REDIS_CLUSTER_NODES has to name servers of a cluster; the first lines of this file show how."),
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
