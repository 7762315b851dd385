/** A command as a child of this process, for what it prints. */
import { Effect } from "effect"
import { execFile } from "node:child_process"
import * as Path from "node:path"

export interface Ended {
  readonly code: number
  readonly output: string
}

export interface Options {
  readonly cwd?: string | undefined
  /** What differs from the environment of this process; `undefined` takes a variable away. */
  readonly env?: Record<string, string | undefined> | undefined
  /** After how many milliseconds the command is ended. Default: 30,000. */
  readonly timeout?: number | undefined
}

/** Where a command is that the project depends on. */
export const bin = (name: string): string => Path.resolve("node_modules/.bin", name)

/** Runs a command until it ends. */
export const execute = (
  command: string,
  args: ReadonlyArray<string>,
  { cwd, env, timeout = 30_000 }: Options = {}
): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    const options = { cwd, env: { ...process.env, NO_COLOR: "1", ...env }, timeout }
    const child = execFile(command, args, options, (error, stdout, stderr) =>
      resume(
        Effect.succeed({ code: error === null ? 0 : Number(error.code ?? 1), output: (stdout + stderr).trimEnd() })
      ))
    return Effect.sync(() => child.kill())
  })
