/** The connection for the notifications of one server, beside the one for commands. */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type { Redis } from "ioredis"
import { close, disconnectTimeout } from "./client.ts"

export interface Handlers {
  readonly onMessage: (channel: string, message: string) => void
  /** A connection was made, the first or a later one. It has no subscriptions, and notifications may have been missed. */
  readonly onReady: () => void
  /** The server has ended subscriptions, because it no longer has their slots. */
  readonly onEnded: () => void
  /** The connection broke or could not be made. The next attempt follows. */
  readonly onBroken: () => void
}

export interface Subscriber {
  readonly isReady: () => boolean
  /** The channels whose subscription the server has acknowledged. */
  readonly channels: () => ReadonlyArray<string>
  /** Subscribes to channels of one slot, and ends when the server has acknowledged all of them. */
  readonly subscribe: (channels: ReadonlyArray<string>) => Promise<unknown>
  readonly unsubscribe: (channels: ReadonlyArray<string>) => void
  /** Closes the connection, and does not wait for that. */
  readonly drop: () => void
  readonly close: Effect.Effect<void>
}

// How many channels one command names. So many waits that start at once need few commands, and each has a bounded size.
const batchSize = 1000

// No other command is sent here, so a PING checks the connection. It is replaced after at most 9 seconds of silence.
const pingEvery = 4000
const silentFor = 5000

/**
 * Opens another connection to the server of a client, and opens it again whenever it breaks. Sharded channels move from server
 * to server with their slots.
 */
export const open = (client: Redis, isSharded: boolean, handlers: Handlers): Subscriber => {
  const subscriber = client.duplicate({
    autoResubscribe: false,
    autoResendUnfulfilledCommands: false,
    disconnectTimeout,
    enableOfflineQueue: false,
    keyPrefix: "",
    lazyConnect: true,
    maxRetriesPerRequest: 0,
    replyMapping: "legacy",
    retryStrategy: (times: number) => {
      handlers.onBroken()
      return Math.min(times * 50, 2000)
    },
    socketTimeout: silentFor
  })
  subscriber.on("error", ignore)
  subscriber.on(isSharded ? "smessage" : "message", handlers.onMessage)
  // The status is "ready" a tick before the event, and a channel must not be subscribed to both times.
  let isAnnounced = false
  subscriber.on("ready", () => {
    isAnnounced = true
    handlers.onReady()
  })
  subscriber.on("close", () => {
    isAnnounced = false
  })
  subscriber.on("moved", handlers.onEnded)
  subscriber.connect().catch(ignore)

  // @effect-diagnostics-next-line globalTimers:off -- a socket lives in real time
  const pinging = setInterval(() => {
    if (subscriber.status === "ready") subscriber.ping().catch(ignore)
  }, pingEvery)
  pinging.unref()

  const each = (channels: ReadonlyArray<string>, send: (channels: ReadonlyArray<string>) => Promise<unknown>) =>
    Promise.all(Arr.chunksOf(channels, batchSize).map(send))

  const stopPinging = () => clearInterval(pinging)

  return {
    isReady: () => isAnnounced && subscriber.status === "ready",
    channels: () => {
      const subscribed = subscriber.condition?.subscriber ?? false
      return subscribed !== false ? subscribed.channels(isSharded ? "ssubscribe" : "subscribe") : []
    },
    subscribe: (channels) =>
      each(channels, (batch) => isSharded ? subscriber.ssubscribe(...batch) : subscriber.subscribe(...batch)),
    unsubscribe: (channels) => {
      each(channels, (batch) => isSharded ? subscriber.sunsubscribe(...batch) : subscriber.unsubscribe(...batch))
        .catch(ignore)
    },
    drop: () => {
      stopPinging()
      subscriber.disconnect()
    },
    close: Effect.andThen(Effect.sync(stopPinging), close(subscriber))
  }
}

const ignore = (): void => {}
