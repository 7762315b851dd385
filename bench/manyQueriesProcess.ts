/** A process with a waiter for each query, which reports what they cost: see `manyQueries`. */
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

/** What fibers cost that wait for a callback, the least that a wait in Effect can be. */
export interface FiberReport {
  readonly bytesEach: number
}

/** What waits for jobs of BullMQ cost. */
export interface BullReport {
  readonly bytesEach: number
  readonly connections: number
}

const [url = "", count = "", what = "queries"] = process.argv.slice(2)

// The first collection moves new objects, and the later ones free what that one still held.
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
  // The first wait compiles code and makes what all waits share.
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

const fiberReport = Effect.gen(function*() {
  const callbacks: Array<(effect: Effect.Effect<void>) => void> = []
  const wait = Effect.callback<void>((resume) => {
    callbacks.push(resume)
  })
  const begin = (count: number) => Effect.replicateEffect(Effect.forkChild(wait, { startImmediately: true }), count)
  const first = yield* begin(1)
  const before = yield* heapUsed
  const fibers = yield* begin(Number(count))
  const bytesEach = ((yield* heapUsed) - before) / fibers.length
  // Like the waits, these end, so that all of them are still reachable when the heap is measured.
  for (const resume of callbacks) resume(Effect.void)
  yield* Fiber.joinAll([...first, ...fibers])
  return { bytesEach } satisfies FiberReport
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
  // A wait needs the job itself, as the library's wait needs its machine.
  const jobs = yield* Effect.forEach(ids, (id) => Effect.promise(() => queue.getJob(id)), { concurrency: 100 })
  const waits = jobs.filter((job) => job !== undefined).map((job) =>
    job.waitUntilFinished(events).catch(() => undefined)
  )
  // Each wait first looks for its job.
  yield* Waiters.quiet
  const bytesEach = ((yield* heapUsed) - before) / waits.length
  // The connection of the events, and those that the waits opened.
  return { bytesEach, connections: (yield* server.connections) - others + 1 } satisfies BullReport
})

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(url), commandTimeout: "1 minute" })

const send = (report: Report | BullReport | FiberReport) => process.send?.(JSON.stringify(report))

switch (what) {
  case "fibers": {
    send(await Effect.runPromise(fiberReport))
    process.disconnect()
    break
  }
  case "jobs": {
    send(await Effect.runPromise(Effect.provide(bullReport, Server.layerAt(url))))
    // No worker does these jobs, so the waits would keep the process alive.
    process.exit()
  }
  default: {
    send(await Effect.runPromise(Effect.provide(report, Layer.merge(StoreLayer, Server.layerAt(url)))))
    process.disconnect()
  }
}
