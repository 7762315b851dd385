/** Channels, counted by those who are interested in them, over one connection to each server that has any. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type { QueryKey } from "../../../domain/QueryKey.ts"
import type { QueryRecord } from "../../../domain/QueryRecord.ts"
import type { Listener } from "../../../services/RedisStore.ts"
import type * as RedisStoreError from "../../../services/RedisStoreError.ts"
import { Listeners } from "../listeners.ts"
import * as Codec from "../scripts/codec.ts"
import { toFailure } from "./failures.ts"
import * as Subscriber from "./subscriber.ts"
import { callbackWithTimeout } from "./timeout.ts"
import { addressOf, type Topology } from "./topology.ts"

export interface Subscriptions {
  /** Subscribes to a channel while the scope is open, and returns once the server has acknowledged it. */
  readonly subscribe: (
    channel: string,
    key: QueryKey,
    listener: Listener
  ) => Effect.Effect<void, RedisStoreError.Failure, Scope.Scope>
  /** Hands a record that was read to the listeners of a channel. */
  readonly pass: (channel: string, record: QueryRecord) => void
}

type Acknowledged = Effect.Effect<void, RedisStoreError.Failure>

/** What the server answers to a subscription, for those who wait for it. */
class Acknowledgement {
  private reply: Acknowledged | undefined
  private readonly waiting = new Set<(reply: Acknowledged) => void>()

  set(reply: Acknowledged): void {
    this.reply = reply
    this.waiting.forEach((resume) => resume(reply))
    this.waiting.clear()
  }

  await(millis: number): Acknowledged {
    return this.reply ?? callbackWithTimeout(millis, (reply) => {
      this.waiting.add(reply)
      return () => this.waiting.delete(reply)
    })
  }
}

/** The channels of one slot, which are all on one server. */
class Shard {
  readonly slot: number
  readonly listeners = new Listeners()
  /** Where they were subscribed to last. */
  subscriber: Subscriber.Subscriber | undefined
  /** How often that failed in a row. */
  failures = 0

  constructor(slot: number) {
    this.slot = slot
  }
}

// How many channels are subscribed to in one turn of the event loop, which is given 50 ms at most.
const channelsPerTurn = 1000

// In milliseconds: how long after the first failure channels are subscribed to again, and how long after many.
const shortestDelay = 25
const longestDelay = 1000

/**
 * Makes subscriptions whose connections are opened when they are first needed, and stay until the scope closes or the server
 * has none of their channels any more.
 *
 * There is one rule for one server and for a cluster. Channels become dirty when the first listener comes or the last one
 * leaves, when their server is connected to again, when it ends their subscription, when another server has their slot, and
 * some time after a failure. Dirty channels are subscribed to, or left, where their slot is by then.
 */
export const make = Effect.fnUntraced(function*(
  topology: Topology,
  commandTimeout: Duration.Duration
): Effect.fn.Return<Subscriptions, never, Scope.Scope> {
  const after = Duration.toMillis(commandTimeout)
  const shards = new Map<number, Shard>()
  const subscribers = new Map<string, Subscriber.Subscriber>()
  // Of the channels that are not acknowledged yet, or refused.
  const acknowledgements = new Map<string, Acknowledgement>()
  const dirty = new Set<string>()
  let isFlushing = false
  let isClosed = false

  const shardOf = (channel: string): Shard => {
    const slot = topology.slotOf(channel)
    const shard = shards.get(slot) ?? new Shard(slot)
    shards.set(slot, shard)
    return shard
  }

  const markDirty = (channels: Iterable<string>): void => {
    for (const channel of channels) dirty.add(channel)
    if (isFlushing || dirty.size === 0) return
    isFlushing = true
    queueMicrotask(flush)
  }

  const onMessage = (subscriber: Subscriber.Subscriber | undefined, channel: string, message: string): void => {
    const listeners = shards.get(topology.slotOf(channel))?.listeners
    const key = listeners?.keyOf(channel)
    if (listeners === undefined || key === undefined) return subscriber?.unsubscribe([channel])
    const record = Codec.decodeMessage(key, message)
    listeners.each(
      channel,
      (listener) => record === undefined ? listener.onGap() : listener.onRecord(record, "notification")
    )
  }

  const shardsAt = (subscriber: Subscriber.Subscriber) =>
    Array.from(shards.values()).filter((shard) => shard.subscriber === subscriber)

  const onReady = (subscriber: Subscriber.Subscriber): void => {
    for (const { listeners } of shardsAt(subscriber)) markDirty(listeners.channels)
  }

  const onEnded = (subscriber: Subscriber.Subscriber): void => {
    const left = new Set(subscriber.channels())
    for (const { listeners } of shardsAt(subscriber)) {
      markDirty(listeners.channels.filter((channel) => !left.has(channel)))
    }
  }

  const subscriberAt = (slot: number): Subscriber.Subscriber | undefined => {
    const primary = topology.primaryOf(slot)
    if (primary === undefined) return undefined
    const address = addressOf(primary)
    const open = subscribers.get(address)
    if (open !== undefined) return open
    const subscriber: Subscriber.Subscriber = Subscriber.open(primary, topology.isCluster, {
      onMessage: (channel, message) => onMessage(subscribers.get(address), channel, message),
      onReady: () => onReady(subscriber),
      onEnded: () => onEnded(subscriber),
      onBroken: topology.refresh
    })
    subscribers.set(address, subscriber)
    return subscriber
  }

  // Slots may be on other servers now, and a server may have no slot left.
  const onRefresh = (): void => {
    const used = new Set<Subscriber.Subscriber>()
    for (const shard of shards.values()) {
      if (shard.listeners.isEmpty) continue
      const subscriber = subscriberAt(shard.slot)
      if (subscriber !== shard.subscriber) markDirty(shard.listeners.channels)
      if (subscriber !== undefined) used.add(subscriber)
    }
    if (used.size === 0) return
    for (const [address, subscriber] of subscribers) {
      if (used.has(subscriber)) continue
      subscribers.delete(address)
      subscriber.drop()
    }
  }

  const again = (shard: Shard, channels: ReadonlyArray<string>): void => {
    const delay = Math.min(shortestDelay * 2 ** shard.failures++, longestDelay)
    // @effect-diagnostics-next-line globalTimers:off -- a socket lives in real time
    setTimeout(() => markDirty(channels), delay).unref()
  }

  const flush = (): void => {
    const bySlot = new Map<Shard, Array<string>>()
    let count = 0
    for (const channel of dirty) {
      if (count++ === channelsPerTurn) break
      dirty.delete(channel)
      const shard = shardOf(channel)
      const channels = bySlot.get(shard)
      if (channels === undefined) bySlot.set(shard, [channel])
      else channels.push(channel)
    }
    if (!isClosed) bySlot.forEach((channels, shard) => flushShard(shard, channels))
    if (dirty.size > 0) setImmediate(flush)
    else isFlushing = false
  }

  const flushShard = (shard: Shard, channels: ReadonlyArray<string>): void => {
    const entered = channels.filter((channel) => shard.listeners.has(channel))
    const left = channels.filter((channel) => !shard.listeners.has(channel))
    if (left.length > 0 && shard.subscriber?.isReady() === true) shard.subscriber.unsubscribe(left)
    if (shard.listeners.isEmpty && topology.isCluster) shards.delete(shard.slot)
    if (entered.length === 0) return
    const subscriber = subscriberAt(shard.slot)
    const isMoved = subscriber !== shard.subscriber
    shard.subscriber = subscriber
    if (subscriber === undefined) {
      topology.refresh()
      again(shard, entered)
    } else if (subscriber.isReady()) {
      send(shard, subscriber, isMoved ? shard.listeners.channels : entered)
    }
    // What is not sent before the connection is ready is sent when it is, or when another server has the slot.
  }

  // An acknowledgement counts for those who asked for it, and not for those who came when they had left. Where it is not
  // the first, notifications may have been lost before it.
  const send = (shard: Shard, subscriber: Subscriber.Subscriber, channels: ReadonlyArray<string>): void => {
    const asked = channels.map((channel) => [channel, acknowledgements.get(channel)] as const)
    const onAcknowledged = () => {
      shard.failures = 0
      for (const [channel, acknowledgement] of asked) {
        if (acknowledgement === undefined) {
          shard.listeners.each(channel, (listener) => listener.onGap())
        } else {
          if (acknowledgements.get(channel) === acknowledgement) acknowledgements.delete(channel)
          acknowledgement.set(Effect.void)
        }
      }
    }
    const onFailed = (error: unknown) => {
      const failure = toFailure(error)
      if (!subscriber.isReady()) return
      if (failure._tag !== "AccessDenied") {
        topology.redirect(error)
        topology.refresh()
        again(shard, channels)
      } else if (channels.length > 1) {
        // For one channel that it refuses, the server refuses all.
        channels.forEach((channel) => send(shard, subscriber, [channel]))
      } else {
        asked.forEach(([, acknowledgement]) => acknowledgement?.set(Effect.fail(failure)))
      }
    }
    subscriber.subscribe(channels).then(onAcknowledged, onFailed)
  }

  const enter = (channel: string, key: QueryKey, listener: Listener): void => {
    const { listeners } = shardOf(channel)
    if (!listeners.has(channel)) {
      acknowledgements.set(channel, new Acknowledgement())
      markDirty([channel])
    }
    listeners.add(channel, key, listener)
  }

  const leave = (channel: string, listener: Listener): void => {
    const { listeners } = shardOf(channel)
    listeners.remove(channel, listener)
    if (listeners.has(channel)) return
    acknowledgements.delete(channel)
    markDirty([channel])
  }

  const acknowledged = (channel: string): Acknowledged => acknowledgements.get(channel)?.await(after) ?? Effect.void

  yield* topology.onRefresh(onRefresh)
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      isClosed = true
      return Effect.forEach(subscribers.values(), (subscriber) => subscriber.close, {
        concurrency: "unbounded",
        discard: true
      })
    })
  )

  return {
    subscribe: (channel, key, listener) =>
      Effect.flatMap(Effect.scope, (scope) =>
        Effect.andThen(
          Scope.addFinalizer(scope, Effect.sync(() => leave(channel, listener))),
          Effect.suspend(() => {
            enter(channel, key, listener)
            return acknowledged(channel)
          })
        )),
    pass: (channel, record) =>
      shards.get(topology.slotOf(channel))?.listeners.each(channel, (listener) => listener.onRecord(record, "read"))
  }
})
