/** One subscriber connection, whatever the number of channels and of those who are interested in them. */
import * as Arr from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Redis } from "ioredis"
import * as RedisStoreError from "../../services/RedisStoreError.ts"
import { close } from "./client.ts"
import { type Reader, Readers } from "./hints.ts"

export interface Subscriptions {
  /** Subscribes to a channel while the scope is open, and returns once the server has acknowledged it. */
  readonly subscribe: (channel: string) => Effect.Effect<Effect.Effect<number>, RedisStoreError.Reason, Scope.Scope>
}

// How many channels one command names: many waits that start at once need few commands, of a bounded size.
const batchSize = 1000

/**
 * Makes subscriptions over a connection like that of `client`, which is opened when it is first needed and stays until
 * the scope closes. Whenever it had to be opened again, everybody is told that hints may have been missed.
 */
export const make = Effect.fnUntraced(function*(
  client: Redis,
  commandTimeout: Duration.Duration
): Effect.fn.Return<Subscriptions, never, Scope.Scope> {
  const after = Duration.toMillis(commandTimeout)
  const readers = new Readers()
  const acknowledgements = new Map<string, Deferred.Deferred<void>>()
  const unsent = new Set<string>()
  let subscriber: Redis | undefined

  const open = (): Redis => {
    const opened = client.duplicate({
      autoResubscribe: false,
      keyPrefix: "",
      lazyConnect: true,
      maxRetriesPerRequest: null,
      replyMapping: "legacy"
    })
    opened.on("error", ignore)
    opened.on("message", (channel: string, message: string) => {
      const version = Number.parseInt(message, 10)
      readers.offer(channel, Number.isNaN(version) ? Number.POSITIVE_INFINITY : version)
    })
    opened.on("ready", () => {
      unsent.clear()
      send(opened, readers.channels)
      readers.offerAll()
    })
    // ioredis goes on trying; whoever waits for an acknowledgement waits no longer than the time-out.
    opened.connect().catch(ignore)
    return opened
  }

  // What is not acknowledged because the connection broke is subscribed again when that is ready.
  const send = (opened: Redis, channels: ReadonlyArray<string>): void => {
    for (const batch of Arr.chunksOf(channels, batchSize)) {
      opened.subscribe(...batch).then(() => batch.forEach(acknowledge), ignore)
    }
  }

  const acknowledge = (channel: string): void => {
    const acknowledgement = acknowledgements.get(channel)
    if (acknowledgement !== undefined) Deferred.doneUnsafe(acknowledgement, Effect.void)
  }

  const enter = (channel: string): Reader => {
    subscriber ??= open()
    if (!readers.has(channel)) {
      acknowledgements.set(channel, Deferred.makeUnsafe())
      if (unsent.size === 0) queueMicrotask(flush)
      unsent.add(channel)
    }
    return readers.add(channel)
  }

  const flush = (): void => {
    if (subscriber?.status !== "ready") return
    send(subscriber, Array.from(unsent))
    unsent.clear()
  }

  const leave = (channel: string, reader: Reader): void => {
    readers.remove(channel, reader)
    if (readers.has(channel)) return
    acknowledgements.delete(channel)
    unsent.delete(channel)
    if (subscriber?.status === "ready") subscriber.unsubscribe(channel).catch(ignore)
  }

  const acknowledged = (channel: string): Effect.Effect<void, RedisStoreError.Reason> =>
    Effect.suspend(() => Deferred.await(acknowledgements.get(channel) ?? Deferred.makeUnsafe<void>())).pipe(
      Effect.timeoutOrElse({
        duration: commandTimeout,
        orElse: () => Effect.fail(new RedisStoreError.TimedOut({ after }))
      })
    )

  yield* Effect.addFinalizer(() => subscriber === undefined ? Effect.void : close(subscriber))

  return {
    subscribe: (channel) =>
      Effect.acquireRelease(
        Effect.sync(() => enter(channel)),
        (reader) => Effect.sync(() => leave(channel, reader))
      ).pipe(
        Effect.tap(() => acknowledged(channel)),
        Effect.map((reader) => reader.next)
      )
  }
})

const ignore = (): void => {}
