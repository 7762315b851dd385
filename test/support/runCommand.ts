/** A command as a child of this process, on its terminal. */
import { Effect } from "effect"
import { spawn } from "node:child_process"

/** Runs the command in the arguments of this process with further variables, and exits with its code. */
export const runCommand = (env: Record<string, string>): Effect.Effect<void, Error> =>
  Effect.callback((resume) => {
    const [command = "true", ...args] = process.argv.slice(2)
    const child = spawn(command, args, { stdio: "inherit", env: { ...process.env, ...env } })
    child.once("error", (error) => resume(Effect.fail(error)))
    child.once("exit", (code) => {
      process.exitCode = code ?? 1
      resume(Effect.void)
    })
    return Effect.sync(() => child.kill())
  })
