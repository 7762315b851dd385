/**
 * A primary with replicas, all up to date.
 */
import { Effect, Schedule, type Scope } from "effect"
import type { Redis } from "ioredis"
import * as RedisAdmin from "./RedisAdmin.ts"
import * as RedisServer from "./RedisServer.ts"

export interface Node {
  readonly server: RedisServer.RedisServer
  readonly admin: Redis
}

export interface Replicated {
  readonly primary: Node
  readonly replicas: ReadonlyArray<Node>
}

export const until = (isDone: () => Promise<boolean>): Effect.Effect<unknown> =>
  Effect.repeat(Effect.promise(() => isDone().catch(() => false)), {
    schedule: Schedule.spaced("20 millis"),
    until: (done) => done
  })

const startNode = (args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const server = yield* RedisServer.acquire({ args: ["--repl-diskless-sync-delay", "0", ...args] })
    return { server, admin: yield* RedisAdmin.connect(server.url) }
  })

/** Makes one server the replica of another, or of what stands before that, and waits until it is up to date. */
export const follow = ({ admin }: Node, { host, port }: { readonly host: string; readonly port: number }) =>
  Effect.andThen(
    Effect.promise(() => admin.replicaof(host, port)),
    until(async () => (await admin.info("replication")).includes("master_link_status:up"))
  )

/** Starts a primary and its replicas, which stop with the scope, and waits until the replicas are up to date. */
export const acquire = (options?: {
  /** How many replicas there are. The default is one. */
  readonly count?: number | undefined
  readonly args?: ReadonlyArray<string> | undefined
}): Effect.Effect<Replicated, RedisServer.RedisServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const count = options?.count ?? 1
    const [primary, ...replicas] = yield* Effect.all(
      [startNode(options?.args ?? []), ...Array.from({ length: count }, () => startNode(options?.args ?? []))],
      { concurrency: "unbounded" }
    )
    yield* Effect.forEach(replicas, (replica) => follow(replica, primary.server), { concurrency: "unbounded" })
    return { primary, replicas }
  })

/** Waits until the replicas of a server have all its writes. */
export const caughtUp = ({ admin }: Node): Effect.Effect<unknown> =>
  until(async () => {
    const info = await admin.info("replication")
    const offset = /master_repl_offset:(\d+)/.exec(info)?.[1]
    const replicas = Array.from(info.matchAll(/^slave\d+:.*offset=(\d+)/gm), ([, acknowledged]) => acknowledged)
    return replicas.length > 0 && replicas.every((acknowledged) => acknowledged === offset)
  })

/** Freezes a server while the scope is open. */
export const frozen = ({ server }: Node): Effect.Effect<void, never, Scope.Scope> => {
  const signal = (name: NodeJS.Signals) => Effect.ignore(Effect.try(() => process.kill(server.pid, name)))
  return Effect.acquireRelease(signal("SIGSTOP"), () => signal("SIGCONT"))
}
