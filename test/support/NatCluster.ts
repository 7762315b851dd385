/**
 * A cluster of Redis servers, each behind a proxy: clients are told by `natMap` to go there. It can be made to answer where
 * its slots were some time ago.
 */
import { Effect, type Scope } from "effect"
import type { RedisStoreLive } from "effect-query-state"
import * as Net from "node:net"
import * as Proxy from "./Proxy.ts"
import * as RedisCluster from "./RedisCluster.ts"
import type * as RedisServer from "./RedisServer.ts"

export interface NatCluster {
  readonly cluster: RedisCluster.RedisCluster
  readonly proxies: ReadonlyArray<Proxy.Proxy>
  readonly options: RedisStoreLive.ClusterOptions
  /** From now on, every server answers that the slots are where they are now. */
  readonly forgetToLearn: Effect.Effect<void>
}

type Reply = number | string | ReadonlyArray<Reply>

const encode = (reply: Reply): string => {
  if (typeof reply === "number") return `:${reply}\r\n`
  if (typeof reply === "string") return `$${reply.length}\r\n${reply}\r\n`
  return `*${reply.length}\r\n${reply.map(encode).join("")}`
}

/** Answers CLUSTER SLOTS with a reply of its own, if there is one, and forwards everything else. */
const slotsProxy = (to: Proxy.Address, answer: () => string | undefined) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly listener: Net.Server; readonly sockets: Set<Net.Socket> }>((resume) => {
      const sockets = new Set<Net.Socket>()
      const listener = Net.createServer((client) => {
        const server = Net.connect(to)
        sockets.add(client.setNoDelay(true))
        client.on("data", (data) => {
          const own = /\r\ncluster\r\n\$5\r\nslots\r\n/i.test(data.toString("latin1")) ? answer() : undefined
          if (own === undefined) server.write(data)
          else client.write(own)
        }).on("error", () => {}).on("close", () => {
          sockets.delete(client)
          server.destroy()
        })
        server.pipe(client)
        server.on("error", () => {}).on("close", () => client.destroy())
      })
      listener.listen(0, "127.0.0.1", () => resume(Effect.succeed({ listener, sockets })))
    }),
    ({ listener, sockets }) =>
      Effect.callback<void>((resume) => {
        listener.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      })
  )

export const acquire = (
  size = 3
): Effect.Effect<NatCluster, RedisServer.RedisServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const cluster = yield* RedisCluster.acquire(size)
    let old: string | undefined
    const nodes = [...cluster.primaries, ...cluster.replicas]
    const proxies = yield* Effect.forEach(nodes, ({ server }) =>
      Effect.flatMap(
        slotsProxy({ host: server.host, port: server.port }, () => old),
        ({ listener }) => Proxy.acquire({ host: "127.0.0.1", port: (listener.address() as Net.AddressInfo).port })
      ))
    const natMap = Object.fromEntries(proxies.map(({ host, port }, index) => {
      const server = nodes[index]?.server
      return [`${server?.host}:${server?.port}`, { host, port }]
    }))
    return {
      cluster,
      proxies,
      options: { nodes: proxies.map(({ host, port }) => ({ host, port })), cluster: { natMap } },
      forgetToLearn: Effect.promise(async () => {
        const slots = await cluster.primaries[0]?.admin.cluster("SLOTS")
        old = encode(slots as unknown as Reply)
      })
    }
  })
