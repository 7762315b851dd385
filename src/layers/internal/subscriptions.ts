/** Channels, counted by those who are interested in them, over one subscriber. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as RedisStoreError from "../../services/RedisStoreError.ts"
import { type Reader, Readers } from "./hints.ts"
import type * as Subscriber from "./subscriber.ts"

export interface Subscriptions {
  /** Subscribes to a channel while the scope is open, and returns once the server has acknowledged it. */
  readonly subscribe: (channel: string) => Effect.Effect<Effect.Effect<number>, RedisStoreError.Reason, Scope.Scope>
}

type Acknowledgement = Deferred.Deferred<void, RedisStoreError.Reason>

/** Makes subscriptions over a subscriber that is opened when it is first needed and stays until the scope closes. */
export const make = Effect.fnUntraced(function*(
  open: Subscriber.Open,
  commandTimeout: Duration.Duration
): Effect.fn.Return<Subscriptions, never, Scope.Scope> {
  const after = Duration.toMillis(commandTimeout)
  const readers = new Readers()
  const acknowledgements = new Map<string, Acknowledgement>()
  const unsent = new Set<string>()
  let subscriber: Subscriber.Subscriber | undefined

  const handlers: Subscriber.Handlers = {
    onMessage: (channel, message) => {
      // While the slots of a cluster move, the end of a subscription can miss the server that has it.
      if (!readers.has(channel)) subscriber?.unsubscribe(channel)
      const version = Number.parseInt(message, 10)
      readers.offer(channel, Number.isNaN(version) ? Number.POSITIVE_INFINITY : version)
    },
    onReady: () => send(readers.channels)
  }

  // An acknowledgement counts for those who asked for it, and not for those who came when they had left. Where it is not
  // the first, hints may have been missed before it, and it is time to read.
  const send = (channels: ReadonlyArray<string>): void => {
    unsent.clear()
    const asked = new Map(channels.map((channel) => [channel, acknowledgements.get(channel)]))
    subscriber?.subscribe(channels, (channel, refusal) => {
      const acknowledgement = asked.get(channel)
      if (acknowledgement === undefined) return
      const isFirst = Deferred.doneUnsafe(acknowledgement, refusal === undefined ? Effect.void : Effect.fail(refusal))
      if (!isFirst) readers.offer(channel, Number.POSITIVE_INFINITY)
    })
  }

  const enter = (channel: string): Reader => {
    subscriber ??= open(handlers)
    if (!readers.has(channel)) {
      acknowledgements.set(channel, Deferred.makeUnsafe())
      if (unsent.size === 0) queueMicrotask(flush)
      unsent.add(channel)
    }
    return readers.add(channel)
  }

  // What comes before the connection is ready is sent when it is.
  const flush = (): void => {
    if (subscriber?.isReady() === true) send(Array.from(unsent))
  }

  const leave = (channel: string, reader: Reader): void => {
    readers.remove(channel, reader)
    if (readers.has(channel)) return
    acknowledgements.delete(channel)
    unsent.delete(channel)
    subscriber?.unsubscribe(channel)
  }

  const acknowledged = (channel: string): Effect.Effect<void, RedisStoreError.Reason> =>
    Effect.suspend(() => {
      const acknowledgement: Acknowledgement = acknowledgements.get(channel) ?? Deferred.makeUnsafe()
      return Deferred.await(acknowledgement)
    }).pipe(
      Effect.timeoutOrElse({
        duration: commandTimeout,
        orElse: () => Effect.fail(new RedisStoreError.TimedOut({ after }))
      })
    )

  yield* Effect.addFinalizer(() => subscriber?.close ?? Effect.void)

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
