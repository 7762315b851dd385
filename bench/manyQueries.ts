/** A hundred thousand who wait for as many queries in one process. */
import { Effect } from "effect"
import * as Child from "./child.ts"
import type { Report } from "./manyQueriesProcess.ts"
import type { Row, Scale } from "./Row.ts"
import { Server } from "./Server.ts"

export const rows = Effect.fnUntraced(function*({ isQuick }: Scale) {
  const waiters = isQuick ? 5_000 : 100_000
  const { url } = yield* Server
  const child = yield* Child.start("manyQueriesProcess.ts", { args: [url, `${waiters}`], flags: ["--expose-gc"] })
  const report: Report = JSON.parse(yield* Child.message(child))
  const many = waiters.toLocaleString("en")
  const seconds = (millis: number) => `${(millis / 1000).toFixed(1)} s`
  return [
    {
      what: `of ${many} waiters of as many queries, woken`,
      measured: `${report.woken.toLocaleString("en")} (subscribed in ${
        seconds(report.subscribedAfterMillis)
      }, woken in ${seconds(report.wokenAfterMillis)})`,
      toReach: "all",
      met: report.woken === waiters
    },
    {
      what: "heap of each",
      measured: `${Math.round(report.bytesEach).toLocaleString("en")} bytes`,
      toReach: "below 4,096 bytes",
      met: report.bytesEach < 4096
    },
    {
      what: "their subscriber connections",
      measured: `${report.subscribers}`,
      toReach: "1",
      met: report.subscribers === 1
    }
  ] satisfies ReadonlyArray<Row>
}, Effect.provide(Server.layer, { local: true }))
