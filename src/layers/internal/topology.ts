/** What differs between one Redis server and a cluster of them. */
import type { Cluster, Redis } from "ioredis"
import * as Batch from "./batch.ts"
import type { Publish } from "./scripts.ts"
import * as Subscriber from "./subscriber.ts"

export interface Topology {
  /** Sends a command to the server that has its key. */
  readonly client: Pick<Redis, "eval" | "evalsha" | "script">
  /** The servers that have the keys, each its own. */
  readonly primaries: () => ReadonlyArray<Pick<Redis, "scan">>
  /** To be called before each command, so that many leave together. */
  readonly beforeCommand: () => void
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
  keyPrefix: client.options.keyPrefix ?? "",
  publish: "PUBLISH",
  subscriber: Subscriber.standalone(client)
})

export const cluster = (client: Cluster): Topology => ({
  client,
  primaries: () => client.nodes("master"),
  beforeCommand: () => {},
  keyPrefix: client.options.keyPrefix ?? "",
  publish: "SPUBLISH",
  subscriber: Subscriber.cluster(client)
})
