/** Starts another process with a program of this folder. */
import { Effect, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"

export const start = (
  program: string,
  options: { readonly args?: ReadonlyArray<string>; readonly flags?: ReadonlyArray<string> }
): Effect.Effect<ChildProcess, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() =>
      fork(fileURLToPath(new URL(program, import.meta.url)), options.args ?? [], {
        execArgv: [...process.execArgv, ...options.flags ?? []]
      })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

/** The next message of a child. */
export const message = (child: ChildProcess): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const onExit = (code: number | null) => resume(Effect.die(new Error(`the child exited with ${code}`)))
    const onMessage = (text: unknown) => {
      child.off("exit", onExit)
      resume(Effect.succeed(String(text)))
    }
    child.once("exit", onExit).once("message", onMessage)
    return Effect.sync(() => child.off("exit", onExit).off("message", onMessage))
  })
