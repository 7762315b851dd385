/**
 * An HTTP API in front of long queries, with the answers of FlowMachine's: 202 while a query runs, then 303 to its result.
 *
 *     npx tsx examples/http.ts
 *
 * `http/Api.ts` declares the API, and `http/Server.ts` implements it. This file is a client that sends plain HTTP requests.
 */
import { Console, Effect, Layer, Ref, Schedule } from "effect"
import { FetchHttpClient, HttpClient, HttpClientRequest, type HttpMethod, HttpServer } from "effect/http"
import type { Report } from "./http/Api.ts"
import { ReportError, Reports } from "./http/Reports.ts"
import * as Server from "./http/Server.ts"
import { StoreLayer } from "./support/StoreLayer.ts"

const ReportsLayer = Layer.effect(
  Reports,
  Effect.gen(function*() {
    const results = yield* Ref.make<Record<string, ReadonlyArray<string>>>({})
    return Reports.of({
      compute: Effect.fnUntraced(function*(report, claim) {
        yield* Effect.ignore(claim.report({ done: 1, total: 3, note: "joining" }))
        if (report === "heat-map") return yield* Effect.never
        if (report === "weekly-totals") return yield* new ReportError({ message: "division by zero" })
        yield* Ref.update(results, (all) => ({ ...all, [report]: ["monday 12", "tuesday 9"] }))
      }),
      rows: (id) => Effect.map(Ref.get(results), (all) => all[id] ?? [])
    })
  })
)

const main = Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  const http = yield* HttpClient.HttpClient
  const ask = Effect.fnUntraced(function*(method: HttpMethod.HttpMethod, path: string, body?: unknown) {
    const request = HttpClientRequest.make(method)(`${HttpServer.formatAddress(address)}/api/0${path}`)
    const response = yield* http.execute(body === undefined ? request : HttpClientRequest.bodyJsonUnsafe(request, body))
    return `${method} ${path}: ${response.status} ${response.headers["location"] ?? (yield* response.text)}`
  })
  const run = (report: Report) => ask("POST", "/run", { report })
  const pollUntil = (id: string, what: RegExp) =>
    Effect.repeat(ask("GET", `/poll/${id}`), {
      schedule: Schedule.spaced("20 millis"),
      until: (answer) => what.test(answer)
    })

  yield* Effect.forEach(
    [
      // A query that never ends, and is cancelled.
      run("heat-map"),
      pollUntil("heat-map", /joining/),
      ask("POST", "/cancel/heat-map"),
      ask("GET", "/poll/heat-map"),
      // A query that succeeds.
      run("daily-totals"),
      pollUntil("daily-totals", /303/),
      ask("GET", "/get/daily-totals"),
      ask("POST", "/cancel/daily-totals"),
      // A query that fails.
      run("weekly-totals"),
      pollUntil("weekly-totals", /500/),
      ask("GET", "/get/weekly-totals"),
      // A query that was never run.
      ask("GET", "/poll/forecast")
    ],
    Effect.tap(Console.log),
    { discard: true }
  )
})

await Effect.runPromise(main.pipe(
  // Shows redirects instead of following them.
  Effect.provideService(FetchHttpClient.RequestInit, { redirect: "manual" }),
  Effect.provide(Layer.merge(FetchHttpClient.layer, Layer.provide(Server.layer(0), [ReportsLayer, StoreLayer])))
))

/* Prints:

POST /run: 202 /api/0/poll/heat-map
GET /poll/heat-map: 202 {"status":"executing","msg":"is currently running","progress":{"done":1,"total":3,"note":"joining"}}
POST /cancel/heat-map: 200 {"status":"cancelled","msg":"was cancelled (requested by a client)"}
GET /poll/heat-map: 500 {"_tag":"Failed","status":"cancelled","msg":"was cancelled (requested by a client)"}
POST /run: 202 /api/0/poll/daily-totals
GET /poll/daily-totals: 303 /api/0/get/daily-totals
GET /get/daily-totals: 200 ["monday 12","tuesday 9"]
POST /cancel/daily-totals: 409 {"_tag":"Refused","status":"completed","msg":"is ready"}
POST /run: 202 /api/0/poll/weekly-totals
GET /poll/weekly-totals: 500 {"_tag":"Failed","status":"errored","msg":"finished with an error (ReportError: division by zero)"}
GET /get/weekly-totals: 403 {"_tag":"NoResult","status":"errored","msg":"finished with an error (ReportError: division by zero)"}
GET /poll/forecast: 404 {"_tag":"Missing","status":"known","msg":"is known, but has not yet been run"}
*/
