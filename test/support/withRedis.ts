/**
 * Runs a command with `REDIS_URL` naming a fresh server: `tsx test/support/withRedis.ts tsx examples/demo.ts`.
 */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import * as RedisServer from "./RedisServer.ts"

const run = (command: string, args: ReadonlyArray<string>, env: Record<string, string>) =>
  Effect.callback<number, Error>((resume) => {
    const child = spawn(command, args, { stdio: "inherit", env: { ...process.env, ...env } })
    child.once("error", (error) => resume(Effect.fail(error)))
    child.once("exit", (code) => resume(Effect.succeed(code ?? 1)))
    return Effect.sync(() => child.kill())
  })

const [command = "true", ...args] = process.argv.slice(2)

process.exitCode = await RedisServer.acquire().pipe(
  Effect.flatMap(({ url }) => run(command, args, { REDIS_URL: url })),
  Effect.scoped,
  Effect.runPromise
)
