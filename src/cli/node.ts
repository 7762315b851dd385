/**
 * What Node.js provides to a command-line program: arguments, the terminal, and a clean end.
 *
 * `@effect/platform-node` provides the same, but also brings a web client and more. The inspector needs a few lines of it, and
 * users of the library should not have to install the rest.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Queue from "effect/Queue"
import * as Runtime from "effect/Runtime"
import * as Sink from "effect/Sink"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"
import { emitKeypressEvents, type Key } from "node:readline"

const { stdin, stdout } = process

// In containers, a terminal without a size reports 0.
const size = (): Terminal.Size => ({ columns: stdout.columns || 80, rows: stdout.rows || 24 })

const terminal = Terminal.make({
  columns: Effect.sync(() => size().columns),
  rows: Effect.sync(() => size().rows),

  size: Effect.gen(function*() {
    const sizes = yield* Queue.sliding<Terminal.Size, Cause.Done>(1)
    const onResize = () => Queue.offerUnsafe(sizes, size())
    onResize()
    yield* Effect.acquireRelease(
      Effect.sync(() => stdout.on("resize", onResize)),
      () => Effect.sync(() => stdout.off("resize", onResize))
    )
    return sizes
  }),

  readInput: Effect.gen(function*() {
    const keys = yield* Queue.unbounded<Terminal.UserInput, Cause.Done>()
    if (!stdin.isTTY) return keys
    const onKey = (input: string | undefined, { ctrl = false, meta = false, name = "", shift = false }: Key) =>
      Queue.offerUnsafe(keys, { input: Option.fromUndefinedOr(input), key: { name, ctrl, meta, shift } })
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        emitKeypressEvents(stdin)
        stdin.setRawMode(true).on("keypress", onKey).resume()
      }),
      () => Effect.sync(() => stdin.off("keypress", onKey).setRawMode(false).pause())
    )
    return keys
  }),

  // No command prompts for a line.
  readLine: Effect.suspend(() => Effect.fail(new Terminal.QuitError())),

  display: (text) =>
    Effect.sync(() => {
      stdout.write(text)
    })
})

const stdio = Stdio.make({
  args: Effect.sync(() => process.argv.slice(2)),
  stdinIsTerminal: Effect.sync(() => stdin.isTTY),
  stdoutIsTerminal: Effect.sync(() => stdout.isTTY),
  stdout: () => Sink.forEach((chunk) => Effect.sync(() => stdout.write(chunk))),
  stderr: () => Sink.forEach((chunk) => Effect.sync(() => process.stderr.write(chunk))),
  stdin: Stream.empty
})

/** The services that `effect/cli` requires. No command uses files or starts other programs. */
export const layer = Layer.mergeAll(
  Layer.succeed(Terminal.Terminal, terminal),
  Layer.succeed(Stdio.Stdio, stdio),
  Layer.succeed(
    ChildProcessSpawner.ChildProcessSpawner,
    ChildProcessSpawner.make(() => Effect.die("No command starts another program"))
  ),
  FileSystem.layerNoop({}),
  Path.layer
)

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const

/** What is wrong with the output. A reader that has closed it, as `head` does, ends the program and needs no message. */
const outputTrouble = (error: NodeJS.ErrnoException): string | undefined =>
  error.code === "EPIPE" ? undefined : `The output could not be written: ${error.message}\n`

/** Runs a program, and interrupts it at a signal, and when its output cannot be written. */
export const runMain = Runtime.makeRunMain(({ fiber, teardown }) => {
  // Once: a second signal ends the process at once.
  const interrupt = () => fiber.interruptUnsafe()
  for (const signal of signals) process.once(signal, interrupt)
  let hasFailed = false
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    const trouble = outputTrouble(error)
    // Each write fails with an error of its own. The program may be over by now.
    if (trouble !== undefined && !hasFailed) {
      hasFailed = true
      process.exitCode = 1
      process.stderr.write(trouble)
    }
    interrupt()
  })
  fiber.addObserver((exit) => {
    for (const signal of signals) process.off(signal, interrupt)
    teardown(exit, (code) => {
      process.exitCode = hasFailed ? 1 : code
    })
  })
})
