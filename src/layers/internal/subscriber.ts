/** What notifications arrive on: one connection beside that for commands, or one a primary in a cluster. */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type { Cluster, Redis } from "ioredis"
import { close } from "./client.ts"

export interface Handlers {
  readonly onMessage: (channel: string, message: string) => void
  /** A connection was made, be it again: channels have to be subscribed to, and messages may have been missed. */
  readonly onReady: () => void
}

export interface Subscriber {
  readonly isReady: () => boolean
  /** Subscribes to channels, and calls back for each once the server has acknowledged it. */
  readonly subscribe: (channels: ReadonlyArray<string>, onAcknowledged: (channel: string) => void) => void
  readonly unsubscribe: (channel: string) => void
  readonly close: Effect.Effect<void>
}

/** Makes a subscriber, when there first is something to subscribe to. */
export type Open = (handlers: Handlers) => Subscriber

// How many channels one command names: many waits that start at once need few commands, of a bounded size.
const batchSize = 1000

/** Opens a connection like that of `client`, and opens it again whenever it breaks. */
export const standalone = (client: Redis): Open => (handlers) => {
  const subscriber = client.duplicate({
    autoResubscribe: false,
    keyPrefix: "",
    lazyConnect: true,
    maxRetriesPerRequest: null,
    replyMapping: "legacy"
  })
  subscriber.on("error", ignore)
  subscriber.on("message", handlers.onMessage)
  subscriber.on("ready", handlers.onReady)
  subscriber.connect().catch(ignore)
  return {
    isReady: () => subscriber.status === "ready",
    // What is not acknowledged because the connection broke is subscribed again when that is ready.
    subscribe: (channels, onAcknowledged) => {
      for (const batch of Arr.chunksOf(channels, batchSize)) {
        subscriber.subscribe(...batch).then(() => batch.forEach(onAcknowledged), ignore)
      }
    },
    unsubscribe: (channel) => {
      if (subscriber.status === "ready") subscriber.unsubscribe(channel).catch(ignore)
    },
    close: close(subscriber)
  }
}

/** Uses the connections that a client of a cluster keeps for sharded notifications. */
export const cluster = (client: Cluster): Open => (handlers) => {
  client.on("smessage", handlers.onMessage)
  client.on("subscribersReady", handlers.onReady)
  return {
    isReady: () => client.status === "ready",
    // Channels of different slots cannot be named by one command.
    subscribe: (channels, onAcknowledged) => {
      for (const channel of channels) client.ssubscribe(channel).then(() => onAcknowledged(channel), ignore)
    },
    unsubscribe: (channel) => {
      client.sunsubscribe(channel).catch(ignore)
    },
    close: Effect.sync(() => {
      client.off("smessage", handlers.onMessage)
      client.off("subscribersReady", handlers.onReady)
    })
  }
}

const ignore = (): void => {}
