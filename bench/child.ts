/** Starts other processes with programs of this folder, and talks to them. */
import { Effect, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"

export interface Options {
  readonly args?: ReadonlyArray<string>
  readonly flags?: ReadonlyArray<string>
  /** The tsconfig that says which build of the library the program imports; see `build.ts`. Default: this one. */
  readonly tsconfig?: string | undefined
}

export const start = (
  program: string,
  { args = [], flags = [], tsconfig }: Options
): Effect.Effect<ChildProcess, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() =>
      fork(fileURLToPath(new URL(program, import.meta.url)), args, {
        execArgv: [...process.execArgv, ...flags],
        env: tsconfig === undefined ? process.env : { ...process.env, TSX_TSCONFIG_PATH: tsconfig }
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

/** Sends an order, and returns the message that answers it. */
export const ask = (child: ChildProcess, order: object): Effect.Effect<string> =>
  Effect.suspend(() => {
    child.send(order)
    return message(child)
  })
