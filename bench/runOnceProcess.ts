/** One of several processes that all want the results of the same queries: see `runOnce`. */
import { Effect, Redacted } from "effect"
import { QueryKey, QueryStateMachine, RedisStoreLive } from "effect-query-state"
import { setTimeout } from "node:timers/promises"
import * as Bull from "./bull.ts"

export type With = "bull" | "library"

/** An order to do one round. */
export interface Order {
  readonly round: string
}

export interface Report {
  readonly executed: number
  readonly results: number
  /** Microseconds of processor that this process used. */
  readonly processor: number
}

const [url = "", what = "", queries = ""] = process.argv.slice(2)

const concurrency = 100
let executed = 0

/** A query that takes a moment. */
const execute = async (name: string) => {
  executed += 1
  await setTimeout(5)
  return name
}

const serve = <E, R>(runOrJoin: (name: string) => Effect.Effect<string, E, R>) =>
  Effect.gen(function*() {
    const run = Effect.runPromiseWith(yield* Effect.context<R>())
    const round = Effect.fnUntraced(function*({ round }: Order) {
      const names = Array.from({ length: Number(queries) }, (_, index) => `${round}-${index}`)
      executed = 0
      const before = process.cpuUsage()
      const results = yield* Effect.forEach(names, runOrJoin, { concurrency })
      const { system, user } = process.cpuUsage(before)
      return {
        executed,
        results: results.filter((result, index) => result === names[index]).length,
        processor: user + system
      } satisfies Report
    })
    process.on("message", (order: Order) => {
      void run(round(order)).then((report) => process.send?.(JSON.stringify(report)))
    })
    process.send?.("ready")
    yield* Effect.callback<void>((resume) => {
      process.once("disconnect", () => resume(Effect.void))
    })
  })

const library = serve((name) =>
  Effect.gen(function*() {
    const query = yield* QueryStateMachine.make(QueryKey.makeUnsafe({ db: "bench", query: name }))
    return yield* query.run({
      execute: () => Effect.promise(() => execute(name)),
      result: Effect.succeedSome(name)
    })
  })
).pipe(Effect.provide(RedisStoreLive.layer({ url: Redacted.make(url) })))

// Jobs with the same id are one job, and each process that added it waits for it.
const bull = Effect.gen(function*() {
  const queue = Bull.queue(url)
  const events = yield* Effect.promise(() => Bull.events(url))
  yield* Effect.promise(() => Bull.worker(url, concurrency, execute))
  return yield* serve((name) =>
    Effect.promise(async (): Promise<string> => {
      const job = await queue.add(name, {}, { jobId: name })
      return job.waitUntilFinished(events)
    })
  )
})

await Effect.runPromise(what === "bull" ? bull : library)
