/**
 * Runs a program to its end, and answers how it ended and what it printed.
 */
import { Effect } from "effect"
import { execFile } from "node:child_process"

export interface Ended {
  readonly code: number
  readonly output: string
}

export const execute = (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv; readonly timeout?: number }
): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    const child = execFile(command, args, { timeout: 30_000, ...options }, (error, stdout, stderr) =>
      resume(
        Effect.succeed({ code: error === null ? 0 : Number(error.code ?? 1), output: (stdout + stderr).trimEnd() })
      ))
    return Effect.sync(() => child.kill())
  })
