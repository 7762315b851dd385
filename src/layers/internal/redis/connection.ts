/** How scripts are sent to Redis: by their hash, bounded in time, with typed failures. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as RedisStoreError from "../../../services/RedisStoreError.ts"
import { isChanged } from "../scripts/scripts.ts"
import { isElsewhere, isNoScript, isTransient, toFailure } from "./failures.ts"
import { Acknowledgements, type Replicas } from "./replication.ts"
import { within } from "./timeout.ts"
import type { Server, Topology } from "./topology.ts"

/** A script that the server has been given, the hash it goes by there, and how many keys it takes. */
export interface Script {
  readonly lua: string
  readonly sha: string
  readonly keyCount: number
}

export type Arguments = ReadonlyArray<string | number>

/** The keys of one query. */
export type RedisKeys = readonly [first: string, ...rest: ReadonlyArray<string>]

/** Runs a script on the keys of a query, with `argsAgain` where it may have been run before and the reply was lost. */
export type Run = (
  script: Script,
  redisKeys: RedisKeys,
  args: Arguments,
  argsAgain?: () => Arguments
) => Effect.Effect<unknown, RedisStoreError.Failure>

export interface Connection {
  readonly run: Run
  /** Runs a script that moves a record on; where it does, replicas have to acknowledge that, if this was asked for. */
  readonly move: Run
  /** Reads a stream, oldest entry first. */
  readonly range: (redisKey: string) => Effect.Effect<unknown, RedisStoreError.Failure>
  /** Finds the keys that match a pattern, some at a time. */
  readonly find: (pattern: string) => Stream.Stream<string, RedisStoreError.Failure>
  /** Puts a script into the server's cache, and so finds out whether it answers at all. */
  readonly load: (lua: string, keyCount: number) => Effect.Effect<Script, RedisStoreError.Failure>
  /** Finds out whether the servers may be told to wait for their replicas at all. */
  readonly tryWait: Effect.Effect<void, RedisStoreError.Failure>
  /** Asks for the time of the server, in microseconds. */
  readonly time: Effect.Effect<number, RedisStoreError.Failure>
}

// How many keys the server looks at in one go: it is not blocked for longer than a millisecond or so.
const scanCount = 1000

type Answer = Result.Result<unknown, RedisStoreError.Failure>

type Send = (script: Script, redisKeys: RedisKeys, args: Arguments) => Effect.Effect<unknown, RedisStoreError.Failure>

/** Sends a script by its hash, and hands the answer that is to come to `follow` at once. */
const evaluate = <A>(
  client: Pick<Server, "eval" | "evalsha">,
  { keyCount, lua, sha }: Script,
  redisKeys: RedisKeys,
  args: Arguments,
  follow: (reply: Promise<unknown>) => Promise<A>
): Promise<A> =>
  follow(client.evalsha(sha, keyCount, ...redisKeys, ...args)).catch((error) => {
    // A server that lost its scripts, or a new one, is given the text, and keeps that.
    if (isNoScript(error)) return follow(client.eval(lua, keyCount, ...redisKeys, ...args))
    throw error
  })

const isSilence = ({ _tag }: RedisStoreError.Failure): boolean => _tag === "ConnectionLost" || _tag === "TimedOut"

const perServer = <A>(make: (server: Server) => A): (server: Server) => A => {
  const made = new WeakMap<Server, A>()
  return (server) => {
    const one = made.get(server) ?? make(server)
    made.set(server, one)
    return one
  }
}

/** Sends scripts through a client of ioredis that somebody else owns. */
export const make = (
  { beforeCommand, client, primaries, refresh, serverOf }: Topology,
  commandTimeout: Duration.Duration,
  replicas: Replicas | undefined
): Connection => {
  const after = Duration.toMillis(commandTimeout)

  const bounded = <A>(send: () => Promise<A>, redisKey?: string): Effect.Effect<A, RedisStoreError.Failure> =>
    within(after, (answer) => {
      send().then(
        (value) => answer(Effect.succeed(value)),
        (error) => answer(Effect.fail(toFailure(error, redisKey)))
      )
    })

  const send: Send = (script, redisKeys, args) =>
    bounded(() => {
      beforeCommand()
      return evaluate(client, script, redisKeys, args, (reply) => reply)
    }, redisKeys[0])

  // It is the connection that wrote which waits for the replicas, so the server is chosen here, and not by ioredis.
  const sendAndWait = (replicas: Replicas): Send => {
    const acknowledgementsOf = perServer((server) => new Acknowledgements(server, replicas))
    const elsewhere = (error: Error): Answer => {
      refresh()
      return Result.fail(new RedisStoreError.Unavailable({ cause: error }))
    }
    return (script, redisKeys, args) =>
      Effect.suspend(() => {
        const [redisKey] = redisKeys
        const server = serverOf(redisKey)
        if (server === undefined) return Effect.fromResult(elsewhere(new Error("no server is known to have the key")))
        const wait = (reply: Promise<unknown>) => acknowledgementsOf(server).of(reply, isChanged)
        const answer = bounded((): Promise<Answer> => {
          beforeCommand()
          return evaluate(server, script, redisKeys, args, wait).catch((error) => {
            if (isElsewhere(error)) return elsewhere(error)
            throw error
          })
        }, redisKey)
        return Effect.flatMap(answer, Effect.fromResult)
      })
  }

  // A server that starts, fails over or is out of reach is asked again for as long as a command may take.
  const whileTransient = Schedule.exponential("50 millis").pipe(
    Schedule.jittered,
    Schedule.upTo({ duration: commandTimeout })
  )

  const runBy = (send: Send): Run => (script, redisKeys, args, argsAgain) =>
    Effect.catchIf(
      send(script, redisKeys, args),
      isTransient,
      () =>
        send(script, redisKeys, argsAgain?.() ?? args).pipe(
          Effect.delay("25 millis"),
          Effect.retry({ schedule: whileTransient, while: isTransient })
        )
    )

  return {
    run: runBy(send),
    move: runBy(replicas === undefined ? send : sendAndWait(replicas)),
    range: (redisKey) =>
      Effect.retry(bounded(() => client.xrange(redisKey, "-", "+"), redisKey), {
        schedule: whileTransient,
        while: isTransient
      }),
    find: (pattern) =>
      Stream.flatMap(Stream.suspend(() => Stream.fromIterable(primaries())), (primary) =>
        Stream.paginate(
          "0",
          (cursor) =>
            Effect.map(
              bounded(() => primary.scan(cursor, "MATCH", pattern, "COUNT", scanCount)),
              ([next, redisKeys]) => [redisKeys, next === "0" ? Option.none() : Option.some(next)]
            )
        )),
    load: (lua, keyCount) =>
      Effect.map(bounded(() => client.script("LOAD", lua)), (sha): Script => ({ lua, sha: String(sha), keyCount })),
    // A primary of a cluster that is out of reach is no reason to do without the others.
    tryWait: Effect.suspend(() =>
      Effect.forEach(
        replicas === undefined ? [] : primaries(),
        (primary) => Effect.catchIf(bounded(() => primary.wait(0, 1)), isSilence, () => Effect.void),
        { concurrency: "unbounded", discard: true }
      )
    ),
    time: Effect.map(bounded(() => client.time()), ([seconds, micros]) => Number(seconds) * 1_000_000 + Number(micros))
  }
}
