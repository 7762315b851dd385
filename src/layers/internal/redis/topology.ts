/** What differs between one Redis server and a cluster of them: which server has a key. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Cluster, ClusterOptions, Redis } from "ioredis"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"
import { toFailure } from "./failures.ts"
import { validateClient } from "./options.ts"
import { slotOf } from "./slot.ts"

export interface Topology {
  /** The part of all keys that moves from server to server as a whole. A single server has one slot. */
  readonly slotOf: (redisKey: string) => number
  /** The connection to the server that has a slot, if that is known; it need not be ready. */
  readonly primaryOf: (slot: number) => Redis | undefined
  /** The connections to all servers that have slots. */
  readonly primaries: () => ReadonlyArray<Redis>
  /** Returns why a server cannot get commands, and tries to change that: it connects, or refreshes the slots. */
  readonly notReady: (server: Redis | undefined) => RedisStoreError.Failure
  /** Learns from an error which server has a slot. Returns the server to ask instead this one time, if there is one. */
  readonly redirect: (error: unknown) => Redis | undefined
  /** Asks again which server has which slots. */
  readonly refresh: () => void
  /** Calls `listener` after each refresh, until the scope closes. */
  readonly onRefresh: (listener: () => void) => Effect.Effect<void, never, Scope.Scope>
  /** The prefix that ioredis adds to the keys of commands, but not to channels and patterns. */
  readonly keyPrefix: string
  readonly isCluster: boolean
}

/** The address of a server; all connections to it have the same. */
export const addressOf = ({ options: { host, port } }: Redis): string => `${host}:${port}`

const on = (
  emitter: Redis | Cluster,
  event: string,
  listener: (error: Error) => void
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(Effect.acquireRelease(
    Effect.sync(() => emitter.on(event, listener)),
    () => Effect.sync(() => emitter.off(event, listener))
  ))

const connect = (server: Redis): void => {
  if (server.status === "wait") server.connect().catch(ignore)
}

/** The failure without a connection, if its cause is unknown. */
export const notConnected: RedisStoreError.Failure = new RedisStoreError.ConnectionLost({
  cause: new Error("not connected")
})

/** One server, through a client that never sends a command again by itself. */
export const standalone = Effect.fnUntraced(
  function*(client: Redis): Effect.fn.Return<Topology, RedisStoreError.InvalidInput, Scope.Scope> {
    yield* Effect.fromResult(validateClient(client.options))
    let problem: RedisStoreError.Failure = notConnected
    yield* on(client, "error", (error) => {
      problem = toFailure(error)
    })
    yield* on(client, "ready", () => {
      problem = notConnected
    })
    return {
      slotOf: () => 0,
      primaryOf: () => client,
      primaries: () => [client],
      notReady: () => {
        connect(client)
        return problem
      },
      redirect: () => undefined,
      refresh: () => {},
      onRefresh: () => Effect.void,
      keyPrefix: client.options.keyPrefix ?? "",
      isCluster: false
    }
  }
)

// The shortest time between two refreshes of the slots, in milliseconds.
const refreshEvery = 100

/**
 * A cluster. ioredis knows which server has which slots, and connects to them. This library sends the commands to the servers
 * itself: the `Cluster` of ioredis would send them again by itself, and keep them while it is not connected.
 */
export const cluster = Effect.fnUntraced(
  function*(client: Cluster): Effect.fn.Return<Topology, never, Scope.Scope> {
    let problem: RedisStoreError.Failure = notConnected
    let refreshedAt = Number.NEGATIVE_INFINITY
    let byAddress: ReadonlyMap<string, Redis> | undefined
    const forget = () => {
      byAddress = undefined
    }
    yield* on(client, "+node", forget)
    yield* on(client, "-node", forget)
    yield* on(client, "refresh", () => {
      forget()
      problem = notConnected
    })
    yield* on(client, "node error", (error) => {
      problem = toFailure(error)
    })

    const serverAt = (address: string | undefined): Redis | undefined => {
      byAddress ??= new Map(client.nodes().map((node) => [addressOf(node), node]))
      return address === undefined ? undefined : byAddress.get(address)
    }

    const refresh = () => {
      if (performance.now() - refreshedAt < refreshEvery) return
      refreshedAt = performance.now()
      client.refreshSlotsCache((error) => {
        // No known server answers. The servers of the option `nodes` may.
        if (error instanceof Error && client.status === "ready" && !client.nodes().some(isReady)) {
          client.disconnect(true)
        }
      })
    }

    return {
      slotOf,
      primaryOf: (slot) => serverAt(client.slots[slot]?.[0]),
      primaries: () => client.nodes("master"),
      notReady: (server) => {
        refresh()
        if (server !== undefined) connect(server)
        return server === undefined && problem === notConnected ? noServer : problem
      },
      redirect: (error) => {
        const [, kind, slot, address] = redirection.exec(error instanceof Error ? error.message : "") ?? []
        if (kind === undefined || address === undefined) return undefined
        const mapped = natMapped(client.options, address)
        if (kind === "ASK") return serverAt(mapped)
        if (serverAt(mapped) !== undefined) client.slots[Number(slot)] = [mapped]
        refresh()
        return undefined
      },
      refresh,
      onRefresh: (listener) => on(client, "refresh", listener),
      keyPrefix: "",
      isCluster: true
    }
  }
)

const isReady = ({ status }: Redis): boolean => status === "ready"

const noServer = new RedisStoreError.Unavailable({ cause: new Error("no server is known to have the key") })

// What a server of a cluster answers that does not have a key: the slot, and the server that has it.
const redirection = /^(MOVED|ASK) (\d+) (\S+)/

const natMapped = ({ natMap }: ClusterOptions, address: string): string => {
  const mapped = typeof natMap === "function" ? natMap(address) : natMap?.[address]
  return mapped === undefined || mapped === null ? address : `${mapped.host}:${mapped.port}`
}

const ignore = (): void => {}
