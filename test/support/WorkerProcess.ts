/**
 * Processes that work under claims, which a test can kill, freeze and thaw.
 *
 * A worker never outlives its scope, nor the process that started it.
 */
import { Deferred, Effect, Exit, type Scope } from "effect"
import type { QueryKey } from "effect-query-state"
import { build } from "esbuild"
import { type ChildProcess, spawn as spawnProcess } from "node:child_process"
import { hostname } from "node:os"
import type { Writable } from "node:stream"
import { fileURLToPath } from "node:url"
import { type Command, type News, type Report, type Step, type Task, unblockingFd } from "../fixtures/workerProtocol.ts"

type NewsOf<T extends News["kind"]> = Extract<News, { readonly kind: T }>

export interface Worker {
  /** What the worker calls itself as a holder. */
  readonly holder: string
  /** Sends it tasks, of which it runs `concurrency` at a time. The default is all. */
  readonly start: (tasks: ReadonlyArray<Task>, concurrency?: number) => Effect.Effect<void>
  /** Waits until a task is paused at a step. */
  readonly reached: (key: QueryKey.QueryKey, step: Step) => Effect.Effect<unknown>
  /** Lets a task that is paused go on. */
  readonly release: (key: QueryKey.QueryKey) => Effect.Effect<void>
  /** Interrupts the caller whose work on a query is under way. */
  readonly hangUp: (key: QueryKey.QueryKey) => Effect.Effect<void>
  /** Lets a worker whose event loop is blocked go on. */
  readonly unblock: Effect.Effect<void>
  /** Its reports on a query so far. */
  readonly newsOf: (key: QueryKey.QueryKey) => ReadonlyArray<News>
  /** Waits until `find` finds something in its reports. */
  readonly until: <A>(find: (reports: ReadonlyArray<Report>) => A | undefined) => Effect.Effect<A>
  /** Waits for a report of one kind on a query. */
  readonly news: <T extends News["kind"]>(key: QueryKey.QueryKey, kind: T) => Effect.Effect<NewsOf<T>>
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
  /** Stops it with SIGTERM, and waits until it is gone. */
  readonly stop: Effect.Effect<void>
  /** Kills it, and waits until it is gone. */
  readonly kill: Effect.Effect<void>
}

/** Starts a worker, and waits until it is connected to a Redis. Its work can store values in another Redis. */
export const spawn = (redisUrl: string, storageUrl = redisUrl): Effect.Effect<Worker, never, Scope.Scope> =>
  Effect.gen(function*() {
    const program = yield* Effect.promise(() => bundle)
    const worker = yield* Effect.acquireRelease(
      Effect.sync(() => launch(program, redisUrl, storageUrl)),
      ({ kill }) => kill
    )
    yield* worker.until((reports) => reports.find(({ kind }) => kind === "ready"))
    return worker
  })

// One text, run from standard input: a process that has to load and to compile each module for itself starts five times
// as slowly, which counts where a dozen of them share two cores.
const bundle: Promise<string> = build({
  entryPoints: [fileURLToPath(new URL("../fixtures/worker.ts", import.meta.url))],
  bundle: true,
  platform: "node",
  format: "cjs",
  write: false,
  logLevel: "error"
}).then(({ outputFiles: [output] }) => output?.text ?? "")

const launch = (program: string, redisUrl: string, storageUrl: string): Worker => {
  const child = spawnProcess(process.execPath, ["-"], {
    env: { ...process.env, REDIS_URL: redisUrl, STORAGE_URL: storageUrl },
    stdio: ["pipe", "inherit", "inherit", "ipc", "pipe"]
  })
  const unblocking = child.stdio[unblockingFd] as Writable
  child.stdin?.end(program)

  const exited = Deferred.makeUnsafe<void>()
  child.once("exit", () => Deferred.doneUnsafe(exited, Exit.void))
  startWatchdog(child)

  const reports: Array<Report> = []
  const listeners = new Set<() => void>()
  child.on("message", (report: Report) => {
    reports.push(report)
    for (const listener of listeners) listener()
  })

  const until: Worker["until"] = <A>(find: (reports: ReadonlyArray<Report>) => A | undefined) =>
    Effect.callback<A>((resume) => {
      const look = () => {
        const found = find(reports)
        if (found === undefined) return
        listeners.delete(look)
        resume(Effect.succeed(found))
      }
      listeners.add(look)
      look()
      return Effect.sync(() => listeners.delete(look))
    }).pipe(
      Effect.raceFirst(
        Effect.andThen(Deferred.await(exited), Effect.die(new Error("The worker has ended without that report")))
      )
    )

  const newsOf: Worker["newsOf"] = (key) =>
    reports.filter((report): report is News =>
      report.kind !== "ready" && report.key.db === key.db && report.key.query === key.query
    )

  const news: Worker["news"] = <T extends News["kind"]>(key: QueryKey.QueryKey, kind: T) =>
    until(() => newsOf(key).find((news): news is NewsOf<T> => news.kind === kind))

  const reached: Worker["reached"] = (key, step) =>
    until(() => newsOf(key).find((news) => news.kind === "reached" && news.step === step))

  const signal = (name: NodeJS.Signals) => Effect.sync(() => child.kill(name))
  // A worker that has ended gets nothing, which is no error of the test.
  const send = (command: Command) => Effect.sync(() => child.send(command, () => {}))
  const kill = Effect.andThen(signal("SIGKILL"), Deferred.await(exited))

  return {
    holder: `${hostname()}:${child.pid}`,
    start: (tasks, concurrency = tasks.length) => send({ does: "start", tasks, concurrency }),
    release: (key) => send({ does: "release", key }),
    hangUp: (key) => send({ does: "hang up", key }),
    unblock: Effect.sync(() => unblocking.write("\n")),
    newsOf,
    until,
    news,
    reached,
    freeze: signal("SIGSTOP"),
    thaw: signal("SIGCONT"),
    stop: Effect.andThen(signal("SIGTERM"), Deferred.await(exited)),
    kill
  }
}

/**
 * Kills a worker that is frozen or blocked when this process ends, and so cannot notice it. That end, whatever the cause,
 * is the end of the watchdog's input.
 */
const startWatchdog = (worker: ChildProcess) => {
  const watchdog = spawnProcess("sh", ["-c", `read -r _ || kill -9 "$0"`, `${worker.pid}`], {
    stdio: ["pipe", "ignore", "ignore"]
  })
  watchdog.stdin.on("error", () => {})
  worker.once("exit", () => watchdog.stdin.end("\n"))
}
