/**
 * A cluster of Redis servers, each primary with one replica.
 */
import { Effect, Schedule, type Scope } from "effect"
import type { Redis } from "ioredis"
import * as RedisAdmin from "./RedisAdmin.ts"
import * as RedisServer from "./RedisServer.ts"

export interface Node {
  readonly server: RedisServer.RedisServer
  readonly admin: Redis
  readonly id: string
}

export interface RedisCluster {
  readonly primaries: ReadonlyArray<Node>
  readonly replicas: ReadonlyArray<Node>
}

const slots = 16_384

const startNode = Effect.fnUntraced(function*(host: string | undefined) {
  const server = yield* RedisServer.acquire({
    host,
    args: ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"]
  })
  const admin = yield* RedisAdmin.connect(server.url)
  const id = String(yield* Effect.promise(() => admin.cluster("MYID")))
  return { server, admin, id }
})

const until = (isDone: () => Promise<boolean>) =>
  Effect.repeat(Effect.promise(isDone), { schedule: Schedule.spaced("20 millis"), until: (done) => done })

const infoSays = (node: Node, text: string) =>
  until(async () => String(await node.admin.cluster("INFO")).includes(text))

/** Starts a cluster that stops with the scope, and waits until it serves all slots and every replica is up to date. */
export const acquire = (
  size = 3,
  host?: string
): Effect.Effect<RedisCluster, RedisServer.RedisServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const nodes = yield* Effect.replicateEffect(startNode(host), 2 * size, { concurrency: "unbounded" })
    const primaries = nodes.slice(0, size)
    const replicas = nodes.slice(size)

    const [first, ...others] = nodes
    if (first === undefined) return { primaries, replicas }
    for (const { server, admin } of others) {
      const [, busPort = ""] = (yield* Effect.promise(() => admin.config("GET", "cluster-port"))) as Array<string>
      yield* Effect.promise(() => first.admin.call("CLUSTER", "MEET", server.host, server.port, busPort))
    }
    yield* Effect.forEach(primaries, ({ admin }, index) => {
      const start = Math.floor(index * slots / size)
      const end = Math.floor((index + 1) * slots / size) - 1
      return Effect.promise(() => admin.call("CLUSTER", "ADDSLOTSRANGE", start, end))
    })
    yield* Effect.forEach(nodes, (node) => infoSays(node, `cluster_known_nodes:${nodes.length}`))
    yield* Effect.forEach(
      replicas,
      ({ admin }, index) =>
        // Two servers that have just met do not know each other's name yet.
        until(() => admin.cluster("REPLICATE", primaries[index]?.id ?? "").then(() => true, () => false))
    )
    yield* Effect.forEach(nodes, (node) => infoSays(node, "cluster_state:ok"))
    yield* Effect.forEach(
      replicas,
      ({ admin }) => until(async () => (await admin.info("replication")).includes("master_link_status:up"))
    )
    return { primaries, replicas }
  })

/** Finds the living primary that serves a key, and waits for one while there is none. */
export const primaryOf = ({ primaries, replicas }: RedisCluster, redisKey: string): Effect.Effect<Node> => {
  const nodes = [...primaries, ...replicas]
  const serves = (node: Node) =>
    Effect.promise(() =>
      node.admin.get(redisKey).then(() => true, (error: Error) => error.message.startsWith("WRONGTYPE"))
    )
  return Effect.repeat(Effect.filter(nodes.filter(({ admin }) => admin.status === "ready"), serves), {
    schedule: Schedule.spaced("50 millis"),
    until: ([node]) => node !== undefined
  }).pipe(Effect.flatMap(([node]) => node === undefined ? Effect.never : Effect.succeed(node)))
}

/** Waits until the replica of a primary has all writes of the primary. */
export const replicated = ({ admin }: Node): Effect.Effect<unknown> =>
  until(async () => {
    const info = await admin.info("replication")
    const offset = /master_repl_offset:(\d+)/.exec(info)?.[1]
    return /^slave0:.*offset=(\d+)/m.exec(info)?.[1] === offset
  })

/** The epoch of a server, as another one knows it, or as it knows it itself. */
const epochAt = async ({ admin }: Node, { id }: Node): Promise<string | undefined> => {
  const lines = String(await admin.cluster("NODES")).split("\n").map((line) => line.split(" "))
  return lines.find(([name]) => name === id)?.[6]
}

/**
 * Moves what is in the slot of a key to another primary, and answers what hands over the slot itself. Until then the first
 * one is responsible for it, and refers to the other.
 */
export const beginToMoveSlotOf = (
  cluster: RedisCluster,
  redisKey: string
): Effect.Effect<{ readonly handOver: Effect.Effect<void> }> =>
  Effect.gen(function*() {
    const from = yield* primaryOf(cluster, redisKey)
    const to = cluster.primaries.find((node) => node !== from)
    if (to === undefined) return { handOver: Effect.void }
    const slot = yield* Effect.promise(() => from.admin.cluster("KEYSLOT", redisKey))
    yield* Effect.promise(async () => {
      await to.admin.call("CLUSTER", "SETSLOT", slot, "IMPORTING", from.id)
      await from.admin.call("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
      const keys = await from.admin.cluster("GETKEYSINSLOT", slot, 1_000)
      await from.admin.call("MIGRATE", to.server.host, to.server.port, "", 0, 5_000, "KEYS", ...keys)
    })
    // A server takes a slot with the highest epoch that it knows. If the old owner has a higher one, an earlier message of it
    // takes the slot away again, and then each of the two says that the other one has it.
    const handOver = Effect.andThen(
      until(async () => await epochAt(to, from) === await epochAt(from, from)),
      Effect.promise(async () => {
        await to.admin.call("CLUSTER", "SETSLOT", slot, "NODE", to.id)
        await from.admin.call("CLUSTER", "SETSLOT", slot, "NODE", to.id)
      })
    )
    return { handOver }
  })

/** Moves the slot of a key with its keys to another primary. */
export const moveSlotOf = (cluster: RedisCluster, redisKey: string): Effect.Effect<void> =>
  Effect.flatMap(beginToMoveSlotOf(cluster, redisKey), ({ handOver }) => handOver)
