/** A process with a waiter a query, which tells what they cost it and how they fare: see `manyQueries`. */
import { Effect, Fiber, Layer, Redacted } from "effect"
import { RedisStoreLive } from "effect-query-state"
import * as Bull from "./bull.ts"
import { Server } from "./Server.ts"
import * as Waiters from "./waiters.ts"

export interface Report {
  readonly bytesEach: number
  readonly subscribers: number
  readonly woken: number
  readonly subscribedAfterMillis: number
  readonly wokenAfterMillis: number
}

/** What is told of waits for as many jobs of BullMQ. */
export interface BullReport {
  readonly bytesEach: number
  readonly connections: number
}

const [url = "", count = "", what = "queries"] = process.argv.slice(2)

// The first collection moves what is new, and the later ones let go of what that one still held.
const heapUsed = Effect.sync(() => {
  for (let round = 0; round < 4; round++) globalThis.gc?.()
  return process.memoryUsage().heapUsed
})

const millis = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const begun = performance.now()
    const value = yield* effect
    return [value, Math.round(performance.now() - begun)] as const
  })

const report = Effect.gen(function*() {
  const server = yield* Server
  const keys = Waiters.keys(Number(count))
  // What is compiled and kept once is no waiter's.
  const [first] = keys
  yield* Waiters.enqueue(keys, { lease: "1 hour" })
  yield* Fiber.interruptAll(yield* Waiters.begin(first === undefined ? [] : [first]))

  const before = yield* heapUsed
  const [fibers, subscribedAfterMillis] = yield* millis(Waiters.begin(keys))
  const bytesEach = ((yield* heapUsed) - before) / keys.length
  const subscribers = yield* server.subscribers
  const [woken, wokenAfterMillis] = yield* millis(
    Effect.andThen(Waiters.cancel(keys), Fiber.joinAll(fibers))
  )
  return { bytesEach, subscribers, woken: woken.length, subscribedAfterMillis, wokenAfterMillis } satisfies Report
})

const bullReport = Effect.gen(function*() {
  const server = yield* Server
  const queue = Bull.queue(url)
  const events = yield* Effect.promise(() => Bull.events(url))
  const names = Array.from({ length: Number(count) }, () => ({ name: "job", data: {} }))
  const added = yield* Effect.promise(() => queue.addBulk(names))
  const ids = added.map(({ id }) => `${id}`)
  const others = yield* server.connections

  const before = yield* heapUsed
  // To wait takes the job itself, as the library's wait takes its machine.
  const jobs = yield* Effect.forEach(ids, (id) => Effect.promise(() => queue.getJob(id)), { concurrency: 100 })
  const waits = jobs.filter((job) => job !== undefined).map((job) =>
    job.waitUntilFinished(events).catch(() => undefined)
  )
  // Each wait first looks for its job.
  yield* Waiters.quiet
  const bytesEach = ((yield* heapUsed) - before) / waits.length
  // Those that were there for the waits: the one of the events, and what else they opened.
  return { bytesEach, connections: (yield* server.connections) - others + 1 } satisfies BullReport
})

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(url), commandTimeout: "1 minute" })

const tell = (report: Report | BullReport) => process.send?.(JSON.stringify(report))

if (what === "jobs") {
  tell(await Effect.runPromise(Effect.provide(bullReport, Server.layerAt(url))))
  // What waits for jobs that nobody does would go on for ever.
  process.exit()
} else {
  tell(await Effect.runPromise(Effect.provide(report, Layer.merge(StoreLayer, Server.layerAt(url)))))
  process.disconnect()
}
