/**
 * The requests and responses of the HTTP API. Servers and clients share them.
 */
import { Schema } from "effect"
import { Progress, QueryKey, QueryState } from "effect-query-state"
import { HttpApi, HttpApiEndpoint, HttpApiError, HttpApiGroup, HttpApiSchema } from "effect/http-api"

export const Report = Schema.Literals(["daily-totals", "weekly-totals", "heat-map"])
export type Report = typeof Report.Type

/** The status of a query: the name of its state, a message for people, and its progress. */
const standing = {
  status: Schema.Literals(Object.values(QueryState.wireNames)),
  msg: Schema.String,
  progress: Schema.optionalKey(Progress.Progress)
}
export const Standing = Schema.Struct(standing)

const Pending = Standing.pipe(HttpApiSchema.status("Accepted"))

export class Refused extends Schema.TaggedError<Refused>()("Refused", standing, { httpApiStatus: 409 }) {}
export class Missing extends Schema.TaggedError<Missing>()("Missing", standing, { httpApiStatus: 404 }) {}
export class Failed extends Schema.TaggedError<Failed>()("Failed", standing, { httpApiStatus: 500 }) {}
export class NoResult extends Schema.TaggedError<NoResult>()("NoResult", standing, { httpApiStatus: 403 }) {}

/** A response without a body, with the next address in `location`. */
const goOn = (status: number) => HttpApiSchema.WithHeaders(HttpApiSchema.Empty(status), { location: Schema.String })

const params = { id: QueryKey.QueryId }
const Unavailable = HttpApiError.ServiceUnavailable

export class Queries extends HttpApiGroup.make("queries")
  .add(
    HttpApiEndpoint.post("run", "/run", {
      payload: Schema.Struct({ report: Report }),
      success: goOn(202),
      error: Unavailable
    }),
    HttpApiEndpoint.get("poll", "/poll/:id", {
      params,
      success: [Pending, goOn(303)],
      error: [Missing, Failed, Unavailable]
    }),
    HttpApiEndpoint.get("get", "/get/:id", {
      params,
      success: [Schema.Array(Schema.String), Pending],
      error: [Missing, NoResult, Failed, Unavailable]
    }),
    // Runs the query, or joins its run, and answers with the result when it is there.
    HttpApiEndpoint.get("rows", "/rows/:id", {
      params,
      success: Schema.Array(Schema.String),
      error: [Failed, Unavailable]
    }),
    HttpApiEndpoint.post("cancel", "/cancel/:id", {
      params,
      success: Standing,
      error: [Missing, Refused, Unavailable]
    })
  )
  .prefix("/api/0")
{}

export class Api extends HttpApi.make("reports").add(Queries) {}
