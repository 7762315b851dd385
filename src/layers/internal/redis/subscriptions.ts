/** Channels, counted by those who are interested in them, over one subscriber. */
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type { Listener } from "../../../services/RedisStore.ts"
import type * as RedisStoreError from "../../../services/RedisStoreError.ts"
import { Listeners } from "../listeners.ts"
import * as Scripts from "../scripts/scripts.ts"
import type * as Subscriber from "./subscriber.ts"
import { within } from "./timeout.ts"

export interface Subscriptions {
  /** Subscribes to a channel while the scope is open, and returns once the server has acknowledged it. */
  readonly subscribe: (
    channel: string,
    listener: Listener
  ) => Effect.Effect<void, RedisStoreError.Failure, Scope.Scope>
  /** Tells those who have subscribed to a channel here what was read. */
  readonly read: (channel: string, version: number) => void
}

type Acknowledged = Effect.Effect<void, RedisStoreError.Failure>

/** What the server answers to a subscription, for those who wait for it. */
class Acknowledgement {
  private answered: Acknowledged | undefined
  private readonly waiting = new Set<(answer: Acknowledged) => void>()

  answer(answer: Acknowledged): void {
    this.answered = answer
    this.waiting.forEach((resume) => resume(answer))
    this.waiting.clear()
  }

  within(millis: number): Acknowledged {
    return this.answered ?? within(millis, (answer) => {
      this.waiting.add(answer)
      return () => this.waiting.delete(answer)
    })
  }
}

/** Makes subscriptions over a subscriber that is opened when it is first needed and stays until the scope closes. */
export const make = Effect.fnUntraced(function*(
  open: Subscriber.Open,
  commandTimeout: Duration.Duration
): Effect.fn.Return<Subscriptions, never, Scope.Scope> {
  const after = Duration.toMillis(commandTimeout)
  const listeners = new Listeners()
  // Of the channels that are not acknowledged yet, or refused.
  const acknowledgements = new Map<string, Acknowledgement>()
  // The channels that somebody came to, or all left, since the server was last told.
  const untold = new Set<string>()
  let subscriber: Subscriber.Subscriber | undefined

  const handlers: Subscriber.Handlers = {
    onMessage: (channel, message) => {
      // While the slots of a cluster move, the end of a subscription can miss the server that has it.
      if (!listeners.has(channel)) subscriber?.unsubscribe([channel])
      if (message.endsWith(Scripts.progressSuffix)) return listeners.progress(channel)
      const version = Number.parseInt(message, 10)
      listeners.hint(channel, Number.isNaN(version) ? Number.POSITIVE_INFINITY : version)
    },
    onReady: () => {
      untold.clear()
      send(listeners.channels)
    }
  }

  // An acknowledgement counts for those who asked for it, and not for those who came when they had left. Where it is not
  // the first, hints may have been missed before it, and it is time to read.
  const send = (channels: ReadonlyArray<string>): void => {
    const asked = new Map(channels.map((channel) => [channel, acknowledgements.get(channel)]))
    subscriber?.subscribe(channels, (channel, refusal) => {
      const acknowledgement = asked.get(channel)
      if (acknowledgement === undefined) {
        listeners.hint(channel, Number.POSITIVE_INFINITY)
      } else if (refusal !== undefined) {
        acknowledgement.answer(Effect.fail(refusal))
      } else {
        if (acknowledgements.get(channel) === acknowledgement) acknowledgements.delete(channel)
        acknowledgement.answer(Effect.void)
      }
    })
  }

  // What is to be told before the connection is ready is told when it is.
  const tell = (): void => {
    const [entered, left] = Arr.partition(
      untold,
      (channel) => listeners.has(channel) ? Result.succeed(channel) : Result.fail(channel)
    )
    untold.clear()
    if (subscriber?.isReady() !== true) return
    subscriber.unsubscribe(left)
    send(entered)
  }

  const changed = (channel: string): void => {
    if (untold.size === 0) queueMicrotask(tell)
    untold.add(channel)
  }

  const enter = (channel: string, listener: Listener): void => {
    subscriber ??= open(handlers)
    if (!listeners.has(channel)) {
      acknowledgements.set(channel, new Acknowledgement())
      changed(channel)
    }
    listeners.add(channel, listener)
  }

  const leave = (channel: string, listener: Listener): void => {
    listeners.remove(channel, listener)
    if (listeners.has(channel)) return
    acknowledgements.delete(channel)
    changed(channel)
  }

  const acknowledged = (channel: string): Acknowledged => acknowledgements.get(channel)?.within(after) ?? Effect.void

  yield* Effect.addFinalizer(() => subscriber?.close ?? Effect.void)

  return {
    subscribe: (channel, listener) =>
      Effect.flatMap(Effect.scope, (scope) =>
        Effect.andThen(
          Scope.addFinalizer(scope, Effect.sync(() => leave(channel, listener))),
          Effect.suspend(() => {
            enter(channel, listener)
            return acknowledged(channel)
          })
        )),
    read: (channel, version) => listeners.read(channel, version)
  }
})
