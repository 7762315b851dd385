/** How scripts are sent to Redis: by their hash, bounded in time, with typed failures. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Redis } from "ioredis"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"
import type { Sending } from "../scripts/codec.ts"
import { isChanged, isLate } from "../scripts/scripts.ts"
import * as Corking from "./corking.ts"
import { isElsewhere, isNoScript, isTransient, toFailure } from "./failures.ts"
import type { Replicas } from "./options.ts"
import { Replication } from "./replication.ts"
import * as Replies from "./replies.ts"
import { ServerClock } from "./serverClock.ts"
import { callbackWithTimeout } from "./timeout.ts"
import { addressOf, notConnected, type Topology } from "./topology.ts"

/** A script that the server has been given, and the hash it goes by there. */
export interface Script {
  readonly lua: string
  readonly sha: string
}

export type Arguments = ReadonlyArray<string | number>

/** The keys of one query. */
export type RedisKeys = readonly [first: string, ...rest: ReadonlyArray<string>]

export interface Connection {
  /** Runs a script on the keys of a query. */
  readonly run: (
    script: Script,
    redisKeys: RedisKeys,
    args: Arguments
  ) => Effect.Effect<unknown, RedisStoreError.Failure>
  /**
   * Runs a script that moves a record on, with arguments that are made anew whenever it is sent. Where it moves the record,
   * replicas have to acknowledge that, if this was asked for.
   */
  readonly move: (
    script: Script,
    redisKeys: RedisKeys,
    argsOf: (sending: Sending) => Arguments
  ) => Effect.Effect<unknown, RedisStoreError.Failure>
  /** Reads a stream, oldest entry first. */
  readonly range: (redisKey: string) => Effect.Effect<unknown, RedisStoreError.Failure>
  /** Reads fields of a hash. */
  readonly fields: (
    redisKey: string,
    names: ReadonlyArray<string>
  ) => Effect.Effect<unknown, RedisStoreError.Failure>
  /** Asks for the types of the values of keys that are on one server; "none" where a key is missing. */
  readonly typesOf: (redisKeys: RedisKeys) => Effect.Effect<ReadonlyArray<string>, RedisStoreError.Failure>
  /** Finds the keys that match a pattern, some at a time. */
  readonly find: (pattern: string) => Stream.Stream<string, RedisStoreError.Failure>
  /** Puts a script into the server's cache, and so finds out whether it answers at all. */
  readonly load: (lua: string) => Effect.Effect<Script, RedisStoreError.Failure>
  /** Finds out whether the servers are what they are expected to be, and what time they have. */
  readonly prepare: Effect.Effect<void, RedisStoreError.Failure>
  /** The clock of the server that has a key. */
  readonly clockOf: (redisKey: string) => ServerClock
  /** The clock of one of the servers. */
  readonly clock: () => ServerClock
}

// How many keys the server looks at in one go: it is not blocked for longer than a millisecond or so.
const scanCount = 1000

interface Sent {
  readonly script: Script
  readonly redisKeys: RedisKeys
  readonly args: Arguments
}

// ioredis does not catch where it is told to ask, and a server that closes the connection meanwhile would end the process.
const asking = (server: Redis): void => {
  server.asking().catch(ignore)
}

/** Sends a script by its hash, and hands the reply that is to come to `follow` at once. */
const evaluate = <A>(
  server: Redis,
  { args, redisKeys, script: { lua, sha } }: Sent,
  isAsking: boolean,
  follow: (reply: Promise<unknown>) => Promise<A>
): Promise<A> => {
  if (isAsking) asking(server)
  return follow(server.evalsha(sha, redisKeys.length, ...redisKeys, ...args)).catch((error) => {
    if (!isNoScript(error)) throw error
    // A server that lost its scripts, or a new one, is given the text, and keeps that.
    if (isAsking) asking(server)
    return follow(server.eval(lua, redisKeys.length, ...redisKeys, ...args))
  })
}

// The clock of the server was set, or is not known yet: the deadline of a command that is sent for the first time was over.
const late = new RedisStoreError.Unavailable({ cause: new Error("its clock was set") })

const isNotReplicated = Schema.is(RedisStoreError.NotReplicated)

const isSilence = ({ _tag }: RedisStoreError.Failure): boolean => _tag === "ConnectionLost" || _tag === "TimedOut"

const perServer = <A>(make: (server: Redis) => A): (server: Redis) => A => {
  const made = new WeakMap<Redis, A>()
  return (server) => {
    const one = made.get(server) ?? make(server)
    made.set(server, one)
    return one
  }
}

/** Sends scripts to the servers that have their keys. */
export const make = (
  topology: Topology,
  commandTimeout: Duration.Duration,
  replicas: Replicas | undefined
): Connection => {
  const after = Duration.toMillis(commandTimeout)
  const corkOf = perServer(Corking.make)
  const clocks = new Map<string, ServerClock>()

  const clockAt = (address: string): ServerClock => {
    const clock = clocks.get(address) ?? new ServerClock()
    clocks.set(address, clock)
    return clock
  }

  const clockOf = perServer((server) => clockAt(addressOf(server)))

  // What a cluster says while a key is elsewhere is over as soon as that is known; a single server says it for good.
  const failureOf = (error: unknown, redisKey?: string): RedisStoreError.Failure =>
    topology.isCluster && isElsewhere(error)
      ? new RedisStoreError.Unavailable({ cause: error })
      : toFailure(error, redisKey)

  const bounded = <A>(
    millis: number,
    send: () => Promise<A>,
    redisKey?: string,
    onFailure?: (failure: RedisStoreError.Failure) => void
  ): Effect.Effect<A, RedisStoreError.Failure> =>
    callbackWithTimeout(millis, (reply) => {
      send().then(
        (value) => reply(Effect.succeed(value)),
        (error: unknown) => {
          const failure = isNotReplicated(error) ? error : failureOf(error, redisKey)
          onFailure?.(failure)
          reply(Effect.fail(failure))
        }
      )
    })

  /** Sends to a server that is ready: nothing waits at ioredis, so nothing is carried out that is given up here. */
  const ask = <A>(
    server: Redis | undefined,
    millis: number,
    send: (server: Redis) => Promise<A>,
    redisKey?: string,
    onFailure?: (failure: RedisStoreError.Failure) => void
  ): Effect.Effect<A, RedisStoreError.Failure> =>
    server?.status === "ready"
      ? bounded(
        millis,
        () => {
          corkOf(server)()
          return send(server)
        },
        redisKey,
        onFailure
      )
      : Effect.fail(topology.notReady(server))

  // A server that starts, fails over or is out of reach is asked again, the more often the less time there is.
  const whileTransient = Schedule.min([
    Schedule.exponential("25 millis"),
    Schedule.spaced(Duration.millis(Math.max(1, after / 25)))
  ]).pipe(Schedule.jittered)

  /**
   * Attempts it again while a failure is transient, until the time that an operation may take is over. It fails with the
   * last failure that says more than that there is no connection at the moment.
   */
  const persist = <A>(
    attempt: (millis: number) => Effect.Effect<A, RedisStoreError.Failure>,
    forMillis = after
  ): Effect.Effect<A, RedisStoreError.Failure> =>
    Effect.suspend(() => {
      const startedAt = performance.now()
      return Effect.catchIf(attempt(forMillis), isTransient, (first) => {
        let last = first
        const left = () => forMillis - (performance.now() - startedAt)
        // An attempt that has hardly any time would end as `TimedOut`, which tells less than the failure before it.
        const isTimeLeft = () => left() > forMillis / 20
        return Effect.suspend(() => isTimeLeft() ? attempt(left()) : Effect.fail(last)).pipe(
          Effect.mapError((failure) => last = failure === notConnected ? last : failure),
          Effect.retry({ schedule: whileTransient, while: (failure) => isTransient(failure) && isTimeLeft() }),
          Effect.delay("25 millis")
        )
      })
    })

  const persistOn = <A>(
    server: () => Redis | undefined,
    send: (server: Redis) => Promise<A>,
    { forMillis = after, redisKey }: { readonly forMillis?: number; readonly redisKey?: string } = {}
  ) => persist((millis) => Effect.suspend(() => ask(server(), millis, send, redisKey)), forMillis)

  /** Asks another server this one time, where a server of a cluster says so. */
  const followed = <A>(server: Redis, send: (server: Redis, isAsking: boolean) => Promise<A>): Promise<A> =>
    send(server, false).catch((error) => {
      const other = topology.redirect(error)
      if (other?.status === "ready") return send(other, true)
      if (other !== undefined) topology.notReady(other)
      throw error
    })

  type Follow = (server: Redis, reply: Promise<unknown>) => Promise<unknown>

  const unfollowed: Follow = (_, reply) => reply

  const replicationOf = replicas === undefined ? undefined : perServer((server) => new Replication(server, replicas))

  const replicated: Follow = replicationOf === undefined
    ? unfollowed
    // The connection that wrote is the one that waits for the replicas.
    : (server, reply) => replicationOf(server).await(reply, isChanged)

  const clockOfKey = (redisKey: string): ServerClock => {
    const server = topology.primaryOf(topology.slotOf(redisKey))
    return server === undefined ? clockAt("") : clockOf(server)
  }

  const send = (
    follow: Follow,
    millis: number,
    sent: Sent,
    onFailure?: (failure: RedisStoreError.Failure) => void
  ) => {
    const [redisKey] = sent.redisKeys
    return ask(
      topology.primaryOf(topology.slotOf(redisKey)),
      millis,
      (server) =>
        followed(server, (server, isAsking) => evaluate(server, sent, isAsking, (reply) => follow(server, reply))),
      redisKey,
      onFailure
    )
  }

  const move: Connection["move"] = (script, redisKeys, argsOf) => {
    let sending: Sending | undefined
    let isLost = false
    // A command that was sent, and whose connection broke before the reply, may have been carried out.
    const onFailure = ({ _tag }: RedisStoreError.Failure) => {
      isLost ||= _tag === "ConnectionLost"
    }
    const next = (): Sending => {
      if (isLost && sending !== undefined) return { ...sending, isAgain: true }
      const clock = clockOfKey(redisKeys[0])
      return {
        sinceMicros: clock.reachedMicros(),
        deadlineMicros: clock.nowMicros() + after * 1000,
        isAgain: false
      }
    }
    return persist((millis) => {
      sending = next()
      const sent = { script, redisKeys, args: argsOf(sending) }
      return Effect.filterOrElse(
        send(replicated, millis, sent, onFailure),
        (reply) => !isLate(reply),
        (reply) =>
          Effect.flatMap(Effect.fromResult(Replies.timeOf(reply)), (micros) => {
            clockOfKey(redisKeys[0]).set(micros)
            return Effect.fail(late)
          })
      )
    })
  }

  const readAt = (redisKey: string, send: (server: Redis) => Promise<unknown>) =>
    persistOn(
      () => topology.primaryOf(topology.slotOf(redisKey)),
      (server) =>
        followed(server, (server, isAsking) => {
          if (isAsking) asking(server)
          return send(server)
        }),
      { redisKey }
    )

  // A primary of a cluster that is out of reach is no reason to wait for long, nor to do without the others.
  const preparing = topology.isCluster ? Math.min(after, 1000) : after
  const onEach = (f: (server: Redis) => Effect.Effect<void, RedisStoreError.Failure>) =>
    Effect.suspend(() =>
      Effect.forEach(
        topology.primaries(),
        (server) => topology.isCluster ? Effect.catchIf(f(server), isSilence, () => Effect.void) : f(server),
        { concurrency: "unbounded", discard: true }
      )
    )

  const scan = (server: () => Redis | undefined, pattern: string) =>
    Stream.paginate(
      Replies.firstPage,
      (page) =>
        persistOn(server, (server) => server.scan(page.cursor, "MATCH", pattern, "COUNT", scanCount)).pipe(
          Effect.flatMap((reply) => Effect.fromResult(Replies.scanned(page, reply))),
          Effect.map(({ next, redisKeys }) => [redisKeys, Option.fromUndefinedOr(next)] as const)
        )
    )

  return {
    run: (script, redisKeys, args) => persist((millis) => send(unfollowed, millis, { script, redisKeys, args })),
    move,
    range: (redisKey) => readAt(redisKey, (server) => server.xrange(redisKey, "-", "+")),
    fields: (redisKey, names) => readAt(redisKey, (server) => server.hmget(redisKey, ...names)),
    typesOf: (redisKeys) =>
      persistOn(
        () => topology.primaryOf(topology.slotOf(redisKeys[0])),
        (server) => Promise.all(redisKeys.map((redisKey) => server.type(redisKey)))
      ),
    find: (pattern) =>
      Stream.flatMap(
        Stream.suspend(() => Stream.fromIterable(topology.primaries())),
        (primary) => scan(() => primary, pattern)
      ),
    load: (lua) =>
      persistOn(
        () => {
          const primaries = topology.primaries()
          return primaries.find(({ status }) => status === "ready") ?? primaries[0]
        },
        (server) => server.script("LOAD", lua)
      ).pipe(
        Effect.flatMap((reply) => Effect.fromResult(Replies.sha(reply))),
        Effect.map((sha): Script => ({ lua, sha }))
      ),
    prepare: onEach((server) => {
      const send = <A>(send: () => Promise<A>) => persistOn(() => server, send, { forMillis: preparing })
      return Effect.gen(function*() {
        if (!topology.isCluster) {
          yield* Effect.fromResult(Replies.mode(yield* Effect.result(send(() => server.call("HELLO")))))
        }
        if (replicas !== undefined) yield* send(() => server.wait(0, 1))
        clockOf(server).set(yield* Effect.fromResult(Replies.micros(yield* send(() => server.time()))))
      })
    }),
    clockOf: clockOfKey,
    clock: () => clocks.values().next().value ?? clockAt("")
  }
}

const ignore = (): void => {}
