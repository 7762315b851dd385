/** A Redis of the benchmark's own, and what it tells about itself. */
import { Context, Effect, Layer, Redacted } from "effect"
import { RedisStoreLive } from "effect-query-state"
import { Redis } from "ioredis"
import * as RedisServer from "../test/support/RedisServer.ts"

export class Server extends Context.Service<Server, {
  readonly url: string
  /** A plain connection, with the protocol of the library's own. */
  readonly raw: Redis
  /** How often a command was called so far. */
  readonly calls: (command: string) => Effect.Effect<number>
  /** How many commands clients sent so far, but for what is asked here. */
  readonly commands: Effect.Effect<number>
  /** How many channels are subscribed to. */
  readonly channels: Effect.Effect<number>
  /** How many connections there are. */
  readonly connections: Effect.Effect<number>
  /** How many connections are in subscriber mode. */
  readonly subscribers: Effect.Effect<number>
}>()("bench/Server") {
  /** Asks a server that runs already. */
  static readonly layerAt = (url: string) =>
    Layer.effect(
      Server,
      Effect.gen(function*() {
        const raw = yield* connect(url)
        const info = (section: string) => Effect.promise(() => raw.info(section))
        return {
          url,
          raw,
          calls: (command) => Effect.map(info("commandstats"), callsOf((name) => name === command)),
          commands: Effect.map(info("commandstats"), callsOf((name) => !notCounted.has(name))),
          channels: Effect.map(info("stats"), (text) => Number(/^pubsub_channels:(\d+)/m.exec(text)?.[1])),
          connections: Effect.map(info("clients"), (text) => Number(/^connected_clients:(\d+)/m.exec(text)?.[1])),
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

// What only the scripts of the library call: Redis counts that too.
const byScripts = ["time", "hmget", "hset", "hdel", "persist", "pexpire", "publish"]
const notCounted: ReadonlySet<string> = new Set([...byScripts, "info", "client|list"])

export const connect = (url: string) =>
  Effect.acquireRelease(
    Effect.sync(() => new Redis(url, { replyMapping: "legacy" })),
    (client) => Effect.sync(() => client.disconnect())
  )

/** A store in that server, beside it. */
export const StoreLayer = Layer.unwrap(
  Effect.map(Server, ({ url }) => RedisStoreLive.layer({ url: Redacted.make(url), commandTimeout: "1 minute" }))
).pipe(Layer.provideMerge(Server.layer))
