/** A hundred thousand waiters of as many queries in one process. */
import { Effect } from "effect"
import * as Child from "./child.ts"
import type { BullReport, FiberReport, Report } from "./manyQueriesProcess.ts"
import type { Row, Scale } from "./Row.ts"
import { Server } from "./Server.ts"
import { count, show } from "./statistics.ts"

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const waiters = isQuick ? 5_000 : 100_000
  const { url } = yield* Server
  const child = yield* Child.start("manyQueriesProcess.ts", { args: [url, `${waiters}`], flags: ["--expose-gc"] })
  const report: Report = JSON.parse(yield* Child.message(child))
  const jobs = isQuick ? 1_000 : 10_000
  const bullChild = yield* Child.start("manyQueriesProcess.ts", {
    args: [url, `${jobs}`, "jobs"],
    flags: ["--expose-gc"]
  })
  const bull: BullReport = JSON.parse(yield* Child.message(bullChild))
  const fiberChild = yield* Child.start("manyQueriesProcess.ts", {
    args: [url, `${waiters}`, "fibers"],
    flags: ["--expose-gc"]
  })
  const fiber: FiberReport = JSON.parse(yield* Child.message(fiberChild))
  const many = count(waiters)
  const seconds = (millis: number) => `${(millis / 1000).toFixed(1)} s`
  const bytes = (number: number) => `${count(number)} bytes`
  return [
    {
      name: "manyQueries",
      figures: { waiters, woken: report.woken, millis: report.wokenAfterMillis },
      what: `of ${many} waiters of as many queries, woken`,
      measured: `${count(report.woken)} (subscribed in ${seconds(report.subscribedAfterMillis)}, woken in ${
        seconds(report.wokenAfterMillis)
      })`,
      toReach: "all",
      isReached: report.woken === waiters
    },
    {
      name: "heap",
      figures: { bytes: report.bytesEach },
      what: "heap of a waiter of its own query",
      measured: bytes(report.bytesEach),
      toReach: "3 KiB or less",
      isReached: report.bytesEach <= 3072
    },
    {
      name: "heapFiber",
      figures: { bytes: fiber.bytesEach, ratio: report.bytesEach / fiber.bytesEach },
      what: "the same, against a fiber of Effect that waits for a callback",
      measured: `${show(report.bytesEach / fiber.bytesEach)} (${bytes(fiber.bytesEach)})`,
      toReach: ""
    },
    {
      name: "heapBull",
      figures: { bytes: bull.bytesEach, connections: bull.connections, ratio: report.bytesEach / bull.bytesEach },
      what: `the same, against BullMQ's \`waitUntilFinished\` of ${count(jobs)} jobs`,
      measured: `${show(report.bytesEach / bull.bytesEach)} (${bytes(bull.bytesEach)}, ${bull.connections} connection)`,
      toReach: ""
    },
    {
      name: "connections",
      figures: { subscribers: report.subscribers },
      what: "subscriber connections of all waiters",
      measured: `${report.subscribers}`,
      toReach: "1",
      isReached: report.subscribers === 1
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(Server.layer, { local: true }))
