/** One of several processes that all want the results of the same queries: see `runOnce`. */
import { Effect, Redacted } from "effect"
import { QueryKey, QueryStateMachine, RedisStoreLive } from "effect-query-state"
import { setTimeout } from "node:timers/promises"
import * as Bull from "./bull.ts"

export type With = "bull" | "library"

export interface Report {
  readonly executed: number
  readonly results: number
}

const [url = "", what = "", round = "", queries = ""] = process.argv.slice(2)

const namesOf = (what: string) => Array.from({ length: Number(queries) }, (_, index) => `${what}-${round}-${index}`)
const names = namesOf("measured")
const concurrency = 100
let executed = 0

/** A query that takes a moment. */
const execute = async (name: string) => {
  executed += 1
  await setTimeout(5)
  return name
}

const go = Effect.callback<void>((resume) => {
  process.once("message", () => resume(Effect.void))
  process.send?.("ready")
})

/** Does it once to warm up, and once more when all are ready. */
const twice = <E, R>(runAll: (names: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, E, R>) =>
  Effect.gen(function*() {
    yield* runAll(namesOf("warm-up"))
    executed = 0
    yield* go
    return yield* runAll(names)
  })

const withLibrary = twice(Effect.forEach((name) =>
  Effect.gen(function*() {
    const query = yield* QueryStateMachine.make(QueryKey.makeUnsafe({ db: "bench", query: name }))
    return yield* query.run({
      execute: () => Effect.promise(() => execute(name)),
      onCompleted: Effect.succeed(name)
    })
  }), { concurrency })).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })))

// The id of a job makes it one, whoever adds it; whoever added it waits for it.
const withBull = Effect.gen(function*() {
  const queue = Bull.queue(url)
  const events = yield* Effect.promise(() => Bull.events(url))
  yield* Effect.promise(() => Bull.worker(url, concurrency, execute))
  return yield* twice(Effect.forEach((name) =>
    Effect.promise(async (): Promise<string> => {
      const job = await queue.add(name, {}, { jobId: name })
      return job.waitUntilFinished(events)
    }), { concurrency }))
})

const results = await Effect.runPromise(what === "bull" ? withBull : withLibrary)
process.send?.(JSON.stringify(
  {
    executed,
    results: results.filter((result, index) => result === names[index]).length
  } satisfies Report
))
process.disconnect()
