/**
 * Runs a command with `REDIS_CLUSTER_NODES` naming the primaries of a fresh cluster:
 * `tsx test/support/withCluster.ts tsx examples/cluster.ts`.
 */
import { Effect } from "effect"
import * as RedisCluster from "./RedisCluster.ts"
import { runCommand } from "./runCommand.ts"

await RedisCluster.acquire().pipe(
  Effect.flatMap(({ primaries }) =>
    runCommand({ REDIS_CLUSTER_NODES: primaries.map(({ server }) => server.url).join() })
  ),
  Effect.scoped,
  Effect.runPromise
)
