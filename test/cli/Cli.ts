/** Runs the inspector as a separate process. */
import { Context, Effect, Layer, type Scope } from "effect"
import { build } from "esbuild"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { inject } from "vitest"

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  /** Waits until it has printed something. */
  readonly printed: (text: string) => Effect.Effect<void>
  readonly signal: (name: NodeJS.Signals) => Effect.Effect<void>
  /** Stops to read what it prints. */
  readonly turnAway: Effect.Effect<void>
  readonly ended: Effect.Effect<Ended>
}

/** Starts the inspector with arguments. `REDIS_URL` is the shared Redis of the tests by default. */
export class Cli extends Context.Service<
  Cli,
  (
    args: ReadonlyArray<string>,
    env?: Record<string, string>,
    outputFile?: string
  ) => Effect.Effect<Running, never, Scope.Scope>
>()("test/support/Cli") {
  // One file: a process that has to load and to compile each module for itself starts three times as slowly.
  static readonly layer = Layer.effect(
    Cli,
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "query-state-cli-"))),
        (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
      )
      const program = Path.join(folder, "main.cjs")
      yield* Effect.promise(() =>
        build({ entryPoints: ["src/cli/main.ts"], bundle: true, platform: "node", format: "cjs", outfile: program })
      )
      const url = inject("redisUrl")
      return (args, env, outputFile) =>
        Effect.acquireRelease(
          Effect.sync(() =>
            spawn(process.execPath, [program, ...args], {
              env: { ...process.env, REDIS_URL: url, NO_COLOR: "1", ...env },
              stdio: ["ignore", outputFile === undefined ? "pipe" : Fs.openSync(outputFile, "w"), "pipe"]
            })
          ),
          (child) => Effect.sync(() => child.kill("SIGKILL"))
        ).pipe(Effect.map(follow))
    })
  )
}

/** Runs the inspector to its end. */
export const run = (
  args: ReadonlyArray<string>,
  env?: Record<string, string>,
  outputFile?: string
): Effect.Effect<Ended, never, Cli> =>
  Cli.use((start) => start(args, env, outputFile)).pipe(Effect.flatMap(({ ended }) => ended), Effect.scoped)

const follow = (child: ChildProcess): Running => {
  let stdout = ""
  let stderr = ""
  const listeners = new Set<() => void>()
  const onNews = (listener: () => void) => {
    listeners.add(listener)
    listener()
  }
  child.stdout?.on("data", (data) => {
    stdout += String(data)
    for (const listener of listeners) listener()
  })
  child.stderr?.on("data", (data) => {
    stderr += String(data)
    for (const listener of listeners) listener()
  })
  const ended = new Promise<Ended>((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })))
  return {
    printed: (text) =>
      Effect.callback<void>((resume) =>
        onNews(() => {
          if (`${stdout}${stderr}`.includes(text)) resume(Effect.void)
        })
      ),
    signal: (name) => Effect.sync(() => child.kill(name)),
    turnAway: Effect.sync(() => child.stdout?.destroy()),
    ended: Effect.promise(() => ended)
  }
}
