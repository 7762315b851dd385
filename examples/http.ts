/**
 * An HTTP API in front of long queries, on two servers, with the answers of FlowMachine's: 202 while a query runs, then 303 to its
 * result. One client hangs up while it waits: the other server takes its query over, and all others get the result.
 *
 *     npx tsx examples/http.ts
 *
 * `http/Api.ts` declares the API, and `http/Server.ts` implements it. This file is a client that sends plain HTTP requests.
 */
import { Console, Context, Effect, Fiber, Layer, Option, Ref, Schedule } from "effect"
import type { RedisStore } from "effect-query-state"
import { FetchHttpClient, HttpClient, HttpClientRequest, type HttpMethod, HttpServer } from "effect/http"
import type { Report } from "./http/Api.ts"
import { ReportError, Reports, type Rows } from "./http/Reports.ts"
import * as Server from "./http/Server.ts"
import { FurtherStoreLayer, StoreLayer } from "./support/StoreLayer.ts"

/** Where both servers store their results. */
const Results = Context.Reference<Ref.Ref<Record<string, Rows>>>("examples/http/Results", {
  defaultValue: () => Ref.makeUnsafe({})
})

const reportsOf = (server: string, daily: Effect.Effect<void>) =>
  Layer.effect(
    Reports,
    Effect.gen(function*() {
      const results = yield* Results
      return Reports.of({
        compute: Effect.fnUntraced(function*(report, claim) {
          yield* Console.log(`${server} computes ${report}`)
          yield* Effect.ignore(claim.report({ done: 1, total: 3, note: "joining" }))
          if (report === "heat-map") return yield* Effect.never
          if (report === "weekly-totals") return yield* new ReportError({ message: "division by zero" })
          yield* daily
          const rows = ["monday 12", "tuesday 9"]
          yield* Ref.update(results, (all) => ({ ...all, [report]: rows }))
          return rows
        }),
        rows: (id) => Effect.map(Ref.get(results), (all) => Option.fromUndefinedOr(all[id]))
      })
    })
  )

/** A server with its own connections to the store, as it has in a process of its own. */
const serve = <E>(store: Layer.Layer<RedisStore.RedisStore, E>, name: string, daily: Effect.Effect<void>) =>
  Effect.gen(function*() {
    const server = yield* Layer.build(Layer.provide(Server.layer(0), [reportsOf(name, daily), store]))
    const { address } = Context.get(server, HttpServer.HttpServer)
    const http = yield* HttpClient.HttpClient
    return Effect.fnUntraced(function*(method: HttpMethod.HttpMethod, path: string, body?: unknown) {
      const request = HttpClientRequest.make(method)(`${HttpServer.formatAddress(address)}/api/0${path}`)
      const response = yield* http.execute(
        body === undefined ? request : HttpClientRequest.bodyJsonUnsafe(request, body)
      )
      return `${name}, ${method} ${path}: ${response.status} ${response.headers["location"] ?? (yield* response.text)}`
    })
  })

const main = Effect.gen(function*() {
  // The first server is so slow that its client does not wait for it.
  const slow = yield* serve(StoreLayer, "server 1", Effect.sleep("1 hour"))
  const fast = yield* serve(FurtherStoreLayer, "server 2", Effect.sleep("100 millis"))
  const run = (report: Report) => fast("POST", "/run", { report })
  const pollUntil = (id: string, what: RegExp) =>
    Effect.repeat(fast("GET", `/poll/${id}`), {
      schedule: Schedule.spaced("20 millis"),
      until: (answer) => what.test(answer)
    })

  // Two clients want the same report, and the one whose server computes it hangs up.
  const impatient = yield* Effect.forkChild(slow("GET", "/rows/daily-totals"))
  yield* pollUntil("daily-totals", /joining/)
  const patient = yield* Effect.forkChild(fast("GET", "/rows/daily-totals"))
  yield* Console.log("the client of server 1 hangs up")
  yield* Fiber.interrupt(impatient)
  yield* Console.log(yield* Fiber.join(patient))
  yield* Console.log(yield* slow("GET", "/rows/daily-totals"))

  yield* Effect.forEach(
    [
      // A query that never ends, and is cancelled.
      run("heat-map"),
      pollUntil("heat-map", /joining/),
      slow("POST", "/cancel/heat-map"),
      fast("GET", "/poll/heat-map"),
      // A query that has its result.
      run("daily-totals"),
      pollUntil("daily-totals", /303/),
      fast("GET", "/get/daily-totals"),
      fast("POST", "/cancel/daily-totals"),
      // A query that fails.
      run("weekly-totals"),
      pollUntil("weekly-totals", /500/),
      fast("GET", "/get/weekly-totals"),
      // A query that was never run.
      fast("GET", "/poll/forecast")
    ],
    Effect.tap(Console.log),
    { discard: true }
  )
})

await Effect.runPromise(main.pipe(
  Effect.scoped,
  // Shows redirects instead of following them.
  Effect.provideService(FetchHttpClient.RequestInit, { redirect: "manual" }),
  // In memory, both servers share this store.
  Effect.provide([FetchHttpClient.layer, StoreLayer])
))

/* Prints:

server 1 computes daily-totals
the client of server 1 hangs up
server 2 computes daily-totals
server 2, GET /rows/daily-totals: 200 ["monday 12","tuesday 9"]
server 1, GET /rows/daily-totals: 200 ["monday 12","tuesday 9"]
server 2 computes heat-map
server 2, POST /run: 202 /api/0/poll/heat-map
server 2, GET /poll/heat-map: 202 {"status":"executing","msg":"is currently running","progress":{"done":1,"total":3,"note":"joining"}}
server 1, POST /cancel/heat-map: 200 {"status":"cancelled","msg":"was cancelled (requested by a client)"}
server 2, GET /poll/heat-map: 500 {"_tag":"Failed","status":"cancelled","msg":"was cancelled (requested by a client)"}
server 2, POST /run: 202 /api/0/poll/daily-totals
server 2, GET /poll/daily-totals: 303 /api/0/get/daily-totals
server 2, GET /get/daily-totals: 200 ["monday 12","tuesday 9"]
server 2, POST /cancel/daily-totals: 409 {"_tag":"Refused","status":"completed","msg":"is ready"}
server 2 computes weekly-totals
server 2, POST /run: 202 /api/0/poll/weekly-totals
server 2, GET /poll/weekly-totals: 500 {"_tag":"Failed","status":"errored","msg":"finished with an error (ReportError: division by zero)"}
server 2, GET /get/weekly-totals: 403 {"_tag":"NoResult","status":"errored","msg":"finished with an error (ReportError: division by zero)"}
server 2, GET /poll/forecast: 404 {"_tag":"Missing","status":"known","msg":"is known, but has not yet been run"}
*/
