/** A Redis of the benchmark's own, and its statistics. */
import { Context, Effect, Layer, Redacted } from "effect"
import { RedisStoreLive } from "effect-query-state"
import { Redis } from "ioredis"
import * as RedisServer from "../test/support/RedisServer.ts"

/** How many commands clients sent, and how many Redis executed: these, and those of scripts. */
export interface Monitored {
  readonly sent: number
  readonly executed: number
}

export class Server extends Context.Service<Server, {
  readonly url: string
  /** A plain connection, with the same protocol as the library's. */
  readonly raw: Redis
  /** Number of calls of one command so far. */
  readonly calls: (command: string) => Effect.Effect<number>
  /** Number of commands that clients have sent so far, without those that this service sends. */
  readonly commands: Effect.Effect<number>
  /** Counts commands during an effect, as MONITOR shows them, which slows the server down. */
  readonly monitor: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Monitored, E, R>
  /** Microseconds of processor time that the server has used so far. */
  readonly processor: Effect.Effect<number>
  /** Number of channels with a subscription. */
  readonly channels: Effect.Effect<number>
  /** Number of connections. */
  readonly connections: Effect.Effect<number>
  /** Number of connections in subscriber mode. */
  readonly subscribers: Effect.Effect<number>
}>()("bench/Server") {
  /** A server that runs already. */
  static readonly layerAt = (url: string) =>
    Layer.effect(
      Server,
      Effect.gen(function*() {
        const raw = yield* connect(url)
        const info = (section: string) => Effect.promise(() => raw.info(section))
        const number = (section: string, name: string) =>
          Effect.map(info(section), (text) => Number(new RegExp(`^${name}:([\\d.]+)`, "m").exec(text)?.[1]))
        return {
          url,
          raw,
          calls: (command) => Effect.map(info("commandstats"), callsOf((name) => name === command)),
          commands: Effect.map(info("commandstats"), callsOf((name) => !notCounted.has(name))),
          monitor: (effect) => Effect.scoped(monitored(raw, effect)),
          processor: Effect.map(
            Effect.all([number("cpu", "used_cpu_user"), number("cpu", "used_cpu_sys")]),
            ([user, system]) => (user + system) * 1e6
          ),
          channels: number("stats", "pubsub_channels"),
          connections: number("clients", "connected_clients"),
          subscribers: Effect.map(
            Effect.promise(() => raw.client("LIST", "TYPE", "PUBSUB")),
            (clients) => `${clients}`.split("\n").filter((line) => line !== "").length
          )
        }
      })
    )

  static readonly layer = Layer.unwrap(Effect.map(RedisServer.acquire(), ({ url }) => Server.layerAt(url)))
}

const callsOf = (isCounted: (command: string) => boolean) => (commandstats: string): number =>
  Array.from(commandstats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm))
    .filter(([, command = ""]) => isCounted(command))
    .reduce((sum, [, , calls]) => sum + Number(calls), 0)

const monitored = Effect.fnUntraced(function*<A, E, R>(raw: Redis, effect: Effect.Effect<A, E, R>) {
  const monitor = yield* Effect.acquireRelease(
    Effect.promise(() => raw.monitor()),
    (monitor) => Effect.sync(() => monitor.disconnect())
  )
  const last = `monitored until ${performance.now()}`
  let sent = 0
  let executed = 0
  const isOver = new Promise<void>((resolve) => {
    monitor.on("monitor", (_time: string, args: ReadonlyArray<string>, source: string) => {
      if (args[1] === last) return resolve()
      if (args[0]?.toLowerCase() === "info") return
      executed += 1
      if (source !== "lua") sent += 1
    })
  })
  yield* effect
  yield* Effect.promise(() => raw.echo(last))
  yield* Effect.promise(() => isOver)
  return { sent, executed } satisfies Monitored
})

// Only the scripts of the library call these; Redis counts them like commands of clients.
const byScripts = ["time", "hmget", "hset", "hdel", "persist", "pexpire", "publish"]
const notCounted: ReadonlySet<string> = new Set([...byScripts, "info", "client|list"])

/** A client of ioredis that sends no command again by itself, as the library wants the clients that it is given. */
export const connect = (url: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      new Redis(url, { replyMapping: "legacy", autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 })
    ),
    (client) => Effect.sync(() => client.disconnect())
  )

/** A server, and a store in it. */
export const StoreLayer = Layer.unwrap(
  Effect.map(Server, ({ url }) => RedisStoreLive.layer({ url: Redacted.make(url), commandTimeout: "1 minute" }))
).pipe(Layer.provideMerge(Server.layer))
