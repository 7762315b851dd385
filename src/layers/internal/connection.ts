/** How scripts are sent to Redis: by their hash, bounded in time, with typed failures. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as RedisStoreError from "../../services/RedisStoreError.ts"
import { isNoScript, isTransient, toReason } from "./failure.ts"
import type { Topology } from "./topology.ts"

/** A script that the server has been given, and the hash it goes by there. */
export interface Script {
  readonly lua: string
  readonly sha: string
}

export type Arguments = ReadonlyArray<string | number>

export interface Connection {
  /** Runs a script on one key, with `argsAgain` where it may have been run before and the answer was lost. */
  readonly run: (
    script: Script,
    redisKey: string,
    args: Arguments,
    argsAgain?: Arguments
  ) => Effect.Effect<unknown, RedisStoreError.Reason>
  /** Finds the keys that match a pattern, some at a time. */
  readonly find: (pattern: string) => Stream.Stream<string, RedisStoreError.Reason>
  /** Puts a script into the server's cache, and so finds out whether it answers at all. */
  readonly load: (lua: string) => Effect.Effect<Script, RedisStoreError.Reason>
}

// How many keys the server looks at in one go: it is not blocked for longer than a millisecond or so.
const scanCount = 1000

/** Sends scripts through a client of ioredis that somebody else owns. */
export const make = ({ beforeCommand, client, primaries }: Topology, commandTimeout: Duration.Duration): Connection => {
  const after = Duration.toMillis(commandTimeout)

  // One timer of Node a command, and no fiber to race against it: Node keeps the timers of one duration in a linked list.
  const bounded = <A>(send: () => Promise<A>, redisKey?: string): Effect.Effect<A, RedisStoreError.Reason> =>
    Effect.callback((resume) => {
      // @effect-diagnostics-next-line globalTimersInEffect:off -- see above; a socket lives in real time anyway
      const timer = setTimeout(() => resume(Effect.fail(new RedisStoreError.TimedOut({ after }))), after)
      send().then(
        (value) => {
          clearTimeout(timer)
          resume(Effect.succeed(value))
        },
        (error) => {
          clearTimeout(timer)
          resume(Effect.fail(toReason(error, redisKey)))
        }
      )
      return Effect.sync(() => clearTimeout(timer))
    })

  const send = ({ lua, sha }: Script, redisKey: string, args: Arguments) =>
    bounded(() => {
      beforeCommand()
      return client.evalsha(sha, 1, redisKey, ...args).catch((error) => {
        // A server that lost its scripts, or a new one, is given the text, and keeps that.
        if (isNoScript(error)) return client.eval(lua, 1, redisKey, ...args)
        throw error
      })
    }, redisKey)

  // A server that starts, fails over or is out of reach is asked again for as long as a command may take.
  const whileTransient = Schedule.exponential("50 millis").pipe(
    Schedule.jittered,
    Schedule.upTo({ duration: commandTimeout })
  )

  return {
    run: (script, redisKey, args, argsAgain = args) =>
      Effect.catchIf(send(script, redisKey, args), isTransient, () =>
        send(script, redisKey, argsAgain).pipe(
          Effect.delay("25 millis"),
          Effect.retry({ schedule: whileTransient, while: isTransient })
        )),
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
    load: (lua) => Effect.map(bounded(() => client.script("LOAD", lua)), (sha): Script => ({ lua, sha: String(sha) }))
  }
}
