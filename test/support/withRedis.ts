/**
 * Runs a command with `REDIS_URL` naming a fresh server: `tsx test/support/withRedis.ts tsx examples/demo.ts`.
 */
import { Effect } from "effect"
import * as RedisServer from "./RedisServer.ts"
import { runCommand } from "./runCommand.ts"

await RedisServer.acquire().pipe(
  Effect.flatMap(({ url }) => runCommand({ REDIS_URL: url })),
  Effect.scoped,
  Effect.runPromise
)
