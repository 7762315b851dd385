/** What differs between one Redis server and a cluster of them. */
import { type Cluster, Command, type Redis, type RedisOptions } from "ioredis"
import type { Publish } from "../scripts/scripts.ts"
import * as Batch from "./corking.ts"
import * as Subscriber from "./subscriber.ts"

/** One server, and always the same connection to it. */
export type Server = Pick<Redis, "eval" | "evalsha" | "scan" | "wait">

export interface Topology {
  /** Sends a command to the server that has its key. */
  readonly client: Pick<Redis, "eval" | "evalsha" | "script" | "time" | "xrange">
  /** The servers that have the keys, each its own. */
  readonly primaries: () => ReadonlyArray<Server>
  /** To be called before each command, so that many leave together. */
  readonly beforeCommand: () => void
  /** The server that has a key, if that is known. */
  readonly serverOf: (redisKey: string) => Server | undefined
  /** Finds out anew which server has what, since one turned out not to have it. */
  readonly refresh: () => void
  /** Whether ioredis sends commands again by itself, on another connection. */
  readonly resends: boolean
  /** What ioredis puts before the keys of commands, and neither before channels nor before patterns. */
  readonly keyPrefix: string
  /** The command that publishes to those who subscribed through `subscriber`. */
  readonly publish: Publish
  readonly subscriber: Subscriber.Open
}

export const standalone = (client: Redis): Topology => ({
  client,
  primaries: () => [client],
  beforeCommand: Batch.make(client),
  serverOf: () => client,
  refresh: () => {},
  resends: resends(client.options),
  keyPrefix: client.options.keyPrefix ?? "",
  publish: "PUBLISH",
  subscriber: Subscriber.standalone(client)
})

export const cluster = (client: Cluster): Topology => ({
  client,
  primaries: () => client.nodes("master"),
  beforeCommand: () => {},
  serverOf: (redisKey) => {
    const [address] = client.slots[new Command("exists", [redisKey]).getSlot()] ?? []
    return client.nodes("master").find(({ options }) => `${options.host}:${options.port}` === address)
  },
  refresh: () => client.refreshSlotsCache(),
  resends: resends(client.options.redisOptions ?? {}),
  keyPrefix: client.options.keyPrefix ?? "",
  publish: "SPUBLISH",
  subscriber: Subscriber.cluster(client)
})

const resends = ({ autoResendUnfulfilledCommands, maxRetriesPerRequest }: RedisOptions): boolean =>
  autoResendUnfulfilledCommands !== false || maxRetriesPerRequest !== 0
