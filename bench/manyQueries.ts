/** A hundred thousand who wait for as many queries in one process. */
import { Effect } from "effect"
import * as Child from "./child.ts"
import type { BullReport, Report } from "./manyQueriesProcess.ts"
import type { Row, Scale } from "./Row.ts"
import { Server } from "./Server.ts"

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
  const many = waiters.toLocaleString("en")
  const seconds = (millis: number) => `${(millis / 1000).toFixed(1)} s`
  return [
    {
      name: "manyQueries",
      figures: { waiters, woken: report.woken, millis: report.wokenAfterMillis },
      what: `of ${many} waiters of as many queries, woken`,
      measured: `${report.woken.toLocaleString("en")} (subscribed in ${
        seconds(report.subscribedAfterMillis)
      }, woken in ${seconds(report.wokenAfterMillis)})`,
      toReach: "all",
      met: report.woken === waiters
    },
    {
      name: "heap",
      figures: { bytes: report.bytesEach },
      what: "heap of each",
      measured: `${Math.round(report.bytesEach).toLocaleString("en")} bytes`,
      toReach: "below 4,096 bytes",
      met: report.bytesEach < 4096
    },
    {
      name: "connections",
      figures: { subscribers: report.subscribers },
      what: "their subscriber connections",
      measured: `${report.subscribers}`,
      toReach: "1",
      met: report.subscribers === 1
    },
    {
      name: "heapBull",
      figures: { bytes: bull.bytesEach, connections: bull.connections, ratio: report.bytesEach / bull.bytesEach },
      what: `heap of each, against BullMQ's waitUntilFinished of ${jobs.toLocaleString("en")} jobs`,
      measured: `${(report.bytesEach / bull.bytesEach).toFixed(2)} x (${
        Math.round(bull.bytesEach).toLocaleString("en")
      } bytes, ${bull.connections} connection)`,
      toReach: "below 1 x",
      met: report.bytesEach < bull.bytesEach
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(Server.layer, { local: true }))
