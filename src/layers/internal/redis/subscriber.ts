/** What notifications arrive on: one connection beside that for commands, or one a primary in a cluster. */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type { Cluster, Redis } from "ioredis"
import type * as RedisStoreError from "../../../services/RedisStoreError.ts"
import { close, disconnectTimeout } from "./client.ts"
import { toFailure } from "./failures.ts"

export interface Handlers {
  readonly onMessage: (channel: string, message: string) => void
  /** A connection was made, be it again: channels have to be subscribed to, and messages may have been missed. */
  readonly onReady: () => void
}

/** Tells that the server has acknowledged a channel, or why it has refused it. */
export type OnAnswer = (channel: string, refusal?: RedisStoreError.Failure) => void

export interface Subscriber {
  readonly isReady: () => boolean
  /**
   * Subscribes to channels, and calls back for each once the server has answered. Where it has not because the connection
   * broke, there is no answer, and it is for whoever is told that the next one is ready to subscribe again.
   */
  readonly subscribe: (channels: ReadonlyArray<string>, onAnswer: OnAnswer) => void
  readonly unsubscribe: (channels: ReadonlyArray<string>) => void
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
    disconnectTimeout,
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
    subscribe: (channels, onAnswer) => {
      for (const batch of Arr.chunksOf(channels, batchSize)) {
        subscriber.subscribe(...batch).then(() => batch.forEach((channel) => onAnswer(channel)), (error) => {
          // For one channel that it refuses, the server refuses all.
          if (isRefusal(error)) batch.forEach((channel) => answer(subscriber.subscribe(channel), channel, onAnswer))
        })
      }
    },
    unsubscribe: (channels) => {
      for (const batch of Arr.chunksOf(channels, batchSize)) subscriber.unsubscribe(...batch).catch(ignore)
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
    subscribe: (channels, onAnswer) => {
      for (const channel of channels) answer(client.ssubscribe(channel), channel, onAnswer)
    },
    unsubscribe: (channels) => {
      for (const channel of channels) client.sunsubscribe(channel).catch(ignore)
    },
    close: Effect.sync(() => {
      client.off("smessage", handlers.onMessage)
      client.off("subscribersReady", handlers.onReady)
    })
  }
}

const answer = (subscribing: Promise<unknown>, channel: string, onAnswer: OnAnswer): void => {
  subscribing.then(() => onAnswer(channel), (error) => {
    if (isRefusal(error)) onAnswer(channel, toFailure(error))
  })
}

const isRefusal = (error: unknown): boolean => toFailure(error)._tag === "AccessDenied"

const ignore = (): void => {}
