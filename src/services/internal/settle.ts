/** Settling a claim: records the outcome of its work, also through an outage that is shorter than the lease. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type { LeaseLost } from "../../domain/QueryError.ts"
import { format, type QueryKey } from "../../domain/QueryKey.ts"
import type { QueryRecord } from "../../domain/QueryRecord.ts"
import type { Command, CommandResult, RedisStore } from "../RedisStore.ts"
import { type Failure, RedisStoreError, TimedOut } from "../RedisStoreError.ts"
import { isGivenUp, type Lost, monotonicMillis, usableMillis } from "./heartbeat.ts"

// The store has its own pace while it is out of reach; this is the pace where it answers that it cannot serve.
export const retries = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("1 second")]).pipe(
  Schedule.jittered
)

/** Failures that end with an outage, and whether the command may have been carried out all the same. */
const passing = new Map<Failure["_tag"], "uncertain" | "not carried out">([
  ["ConnectionLost", "uncertain"],
  ["TimedOut", "uncertain"],
  ["Unavailable", "not carried out"],
  ["ReadOnly", "not carried out"],
  ["OutOfMemory", "not carried out"]
])

// In milliseconds: a busy machine needs as long to send a command and to get its answer, however short the lease is.
const leastForFirstTry = 2000

/** Whether an error is that of an outage. */
export const isPassing = (error: LeaseLost | RedisStoreError): error is RedisStoreError =>
  error._tag === "RedisStoreError" && passing.has(error.reason._tag)

/**
 * Records an outcome under a claim. Through an outage it tries again, until 90 % of the lease is over. The heartbeat renews
 * the lease meanwhile.
 *
 * Each try is the same command, named by the fence: no other command ends this claim, so the store recognises one that was
 * carried out though its answer was lost.
 */
export const settle = Effect.fnUntraced(function*(
  store: RedisStore["Service"],
  { key, version: fence }: QueryRecord,
  outcome: Command,
  lease: Duration.Duration,
  heartbeat: Fiber.Fiber<Lost>
): Effect.fn.Return<CommandResult, LeaseLost | RedisStoreError> {
  const startMillis = yield* monotonicMillis
  let last: RedisStoreError | undefined
  let uncertain: RedisStoreError | undefined

  const onError = Effect.fnUntraced(function*(
    error: LeaseLost | RedisStoreError
  ): Effect.fn.Return<never, LeaseLost | RedisStoreError> {
    // After an uncertain try, a lost claim proves nothing: the outcome may be on record, and the query have moved since.
    if (error._tag === "LeaseLost") return yield* uncertain ?? error
    if (isPassing(error)) {
      if (last === undefined) yield* Effect.logWarning(notRecordedYet(key), error)
      if (passing.get(error.reason._tag) === "uncertain") uncertain = error
      last = error
    }
    return yield* error
  })
  const record = store.compareAndSet(key, { ...outcome, fence, operation: fence }).pipe(
    Effect.catch(onError),
    // The limit is for a store that renews the lease and records no outcome.
    Effect.retry({ schedule: Schedule.upTo(retries, { duration: usableMillis(lease) }), while: isPassing })
  )

  // A claim that the store calls lost may have been ended by an earlier try. The next try gets to know.
  const leaseEnds = Effect.flatMap(Fiber.join(heartbeat), (lost) => isGivenUp(lost, fence) ? Effect.void : Effect.never)
  const giveUp = Effect.gen(function*() {
    yield* leaseEnds
    // A process that was frozen past its lease has only just sent its first try, and the answer will tell.
    if (last === undefined) {
      yield* Effect.sleep(Math.max(Duration.toMillis(lease) - usableMillis(lease), leastForFirstTry))
    }
    const after = (yield* monotonicMillis) - startMillis
    return yield* last ??
      new RedisStoreError({ operation: "record the outcome of", key, reason: new TimedOut({ after }) })
  })
  return yield* Effect.raceFirst(record, giveUp)
})

const notRecordedYet = (key: QueryKey) =>
  `The outcome of query ${format(key)} is not recorded yet. Trying again while its lease holds`
