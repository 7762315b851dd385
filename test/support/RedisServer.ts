/**
 * Redis servers for the tests, each on a free port of this machine and with a folder of its own.
 *
 * A server never outlives its scope, nor the process that started it.
 */
import { Clock, Deferred, Effect, Exit, Schedule, Schema, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as RedisBinary from "./RedisBinary.ts"

export class RedisServerError extends Schema.TaggedError<RedisServerError>()("RedisServerError", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {}

export interface RedisServer {
  readonly url: string
  readonly host: string
  readonly port: number
  readonly pid: number
  /** The server's working folder. What the server prints is in `redis.log` there. */
  readonly dir: string
  /** Kills the server and removes its folder. Stopping twice is fine. */
  readonly stop: Effect.Effect<void>
}

export interface Options {
  /** Further arguments, such as `["--maxmemory", "3mb"]`. They come last and so win over the defaults. */
  readonly args?: ReadonlyArray<string> | undefined
  /** The address to listen on. The default is 127.0.0.1. */
  readonly host?: string | undefined
  /** The port of a stopped server, to start another in its place. The default is a free port. */
  readonly port?: number | undefined
  /** Starts a sentinel, which watches other servers, instead of a server that keeps data. */
  readonly isSentinel?: boolean | undefined
}

/**
 * Starts a server and waits until it answers. It has to be stopped with `stop`; `acquire` leaves that to a scope.
 */
export const start = Effect.fnUntraced(function*(options?: Options): Effect.fn.Return<RedisServer, RedisServerError> {
  const program = yield* RedisBinary.resolve.pipe(
    Effect.mapError((cause) => new RedisServerError({ message: cause.message, cause }))
  )
  return yield* launch(program, options ?? {}).pipe(
    // Another process may take the free port before the server listens on it.
    Effect.retry({ times: 5, while: (error) => error.message.includes("Address already in use") }),
    // Servers start in real time, also in a test with a virtual clock.
    Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())
  )
})

/**
 * Starts a server that stops with the scope.
 */
export const acquire = (options?: Options): Effect.Effect<RedisServer, RedisServerError, Scope.Scope> =>
  Effect.acquireRelease(start(options), (server) => server.stop)

const launch = Effect.fnUntraced(
  function*(program: string, options: Options): Effect.fn.Return<RedisServer, RedisServerError> {
    const { host = "127.0.0.1" } = options
    const port = options.port ?? (yield* freePort(host))
    const busPort = yield* freePort(host)
    const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "query-state-redis-"))
    const socket = Path.join(dir, "redis.sock")
    const log = Path.join(dir, "redis.log")
    const output = Fs.openSync(log, "a")
    const listening = ["--bind", host, "--port", `${port}`, "--cluster-port", `${busPort}`, "--unixsocket", socket]
    const volatile = ["--dir", dir, "--save", "", "--appendonly", "no"]
    // A sentinel needs a file of its own to write its state to.
    const note = Path.join(dir, "sentinel.conf")
    if (options.isSentinel === true) Fs.writeFileSync(note, "")
    const mode = options.isSentinel === true ? [note, "--sentinel"] : []
    const child = spawn(program, [...mode, ...listening, ...volatile, ...options.args ?? []], {
      detached: true,
      stdio: ["ignore", output, output]
    })
    child.unref()
    Fs.closeSync(output)

    const exited = Deferred.makeUnsafe<void>()
    child.once("exit", () => Deferred.doneUnsafe(exited, Exit.void))
    child.once("error", () => Deferred.doneUnsafe(exited, Exit.void))
    const watchdog = startWatchdog(child, dir)

    const stop = Effect.gen(function*() {
      child.ref()
      child.kill("SIGKILL")
      yield* Deferred.await(exited)
      Fs.rmSync(dir, { recursive: true, force: true })
      watchdog.dismiss()
    })

    const failure = (what: string) =>
      Effect.suspend(() =>
        Effect.fail(new RedisServerError({ message: `${program} ${what}:\n${Fs.readFileSync(log, "utf8")}` }))
      )

    // The socket is in the folder of the server: unlike on the port, no other process can answer there.
    yield* answers(socket).pipe(
      Effect.repeat({ schedule: Schedule.spaced("10 millis"), until: (isReady) => isReady }),
      Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => failure("does not answer") }),
      Effect.raceFirst(Effect.andThen(Deferred.await(exited), failure("exited at once"))),
      Effect.onError(() => stop)
    )
    const hostInUrl = host.includes(":") ? `[${host}]` : host
    return { url: `redis://${hostInUrl}:${port}`, host, port, pid: child.pid ?? 0, dir, stop }
  }
)

const answers = (socket: string) =>
  Effect.callback<boolean>((resume) => {
    const connection = Net.connect(socket, () => connection.write("PING\r\n"))
    connection.once("data", (reply) => {
      resume(Effect.succeed(/^(\+PONG|-NOAUTH)/.test(reply.toString())))
      connection.destroy()
    })
    // An error is followed by "close".
    connection.once("error", () => {})
    connection.once("close", () => resume(Effect.succeed(false)))
    return Effect.sync(() => connection.destroy())
  })

const freePort = (host: string) =>
  Effect.callback<number, RedisServerError>((resume) => {
    const server = Net.createServer()
    server.once("error", (cause) => resume(new RedisServerError({ message: "There is no free port", cause })))
    server.listen(0, host, () => {
      const { port } = server.address() as Net.AddressInfo
      server.close(() => resume(Effect.succeed(port)))
    })
  })

/**
 * Cleans up after a process that could not do so itself: one that was killed, or that left without stopping its server.
 *
 * The end of this process, whatever the cause, is the end of the watchdog's input. A line says that a step is done
 * already: the first one that the server is gone, the second one that its folder is.
 */
const startWatchdog = (server: ChildProcess, dir: string) => {
  const script = `read -r _ || kill -9 "$0"; read -r _ || rm -rf "$1"`
  const watchdog = spawn("sh", ["-c", script, `${server.pid}`, dir], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  watchdog.unref()
  watchdog.stdin.on("error", () => {})
  server.once("exit", () => watchdog.stdin.write("\n"))
  return { dismiss: () => watchdog.stdin.end("\n") }
}
