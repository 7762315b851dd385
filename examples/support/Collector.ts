/**
 * A fake collector, so that the example needs no installation. It receives spans and metrics by OTLP/HTTP, as JSON, and
 * keeps what the example prints.
 *
 * Your program needs none of this: its environment names a real collector.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Array as Arr, Console, Context, Effect, Layer, Order, Schema } from "effect"
import { HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"

const Attributes = Schema.Array(
  Schema.Struct({ key: Schema.String, value: Schema.Struct({ stringValue: Schema.optionalKey(Schema.String) }) })
)

const Span = Schema.Struct({
  spanId: Schema.String,
  parentSpanId: Schema.optionalKey(Schema.String),
  name: Schema.String,
  startTimeUnixNano: Schema.String,
  attributes: Attributes,
  links: Schema.Array(Schema.Struct({ spanId: Schema.String }))
})

const Metric = Schema.Struct({
  name: Schema.String,
  unit: Schema.String,
  sum: Schema.optionalKey(Schema.Struct({ isMonotonic: Schema.Boolean }))
})

const Request = Schema.Struct({
  resourceSpans: Schema.optionalKey(Schema.Array(Schema.Struct({
    resource: Schema.Struct({ attributes: Attributes }),
    scopeSpans: Schema.Array(Schema.Struct({ spans: Schema.Array(Span) }))
  }))),
  resourceMetrics: Schema.optionalKey(Schema.Array(Schema.Struct({
    scopeMetrics: Schema.Array(Schema.Struct({ metrics: Schema.Array(Metric) }))
  })))
})

interface Telemetry {
  readonly spans: ReadonlyArray<typeof Span.Type & { readonly service: string | undefined }>
  readonly metrics: ReadonlyArray<typeof Metric.Type>
}

const attributeIn = (attributes: typeof Attributes.Type, key: string) =>
  attributes.find((attribute) => attribute.key === key)?.value.stringValue

const telemetryOf = ({ resourceMetrics = [], resourceSpans = [] }: typeof Request.Type): Telemetry => ({
  spans: resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const service = attributeIn(resource.attributes, "service.name")
    return scopeSpans.flatMap(({ spans }) => spans.map((span) => ({ ...span, service })))
  }),
  metrics: resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
})

export class Collector extends Context.Service<Collector, {
  /** The spans and metrics received so far. */
  readonly collected: Effect.Effect<Telemetry>
}>()("examples/support/Collector") {}

/** Receives at the address to which exporters send. */
export const layer = Layer.effect(
  Collector,
  Effect.gen(function*() {
    const requests: Array<Telemetry> = []
    yield* HttpServer.serveEffect(Effect.gen(function*() {
      requests.push(telemetryOf(yield* HttpServerRequest.schemaBodyJson(Request)))
      return HttpServerResponse.jsonUnsafe({})
    }))
    const { address } = yield* HttpServer.HttpServer
    process.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = HttpServer.formatAddress(address)
    const collected = Effect.sync(() => ({
      spans: requests.flatMap(({ spans }) => spans),
      metrics: requests.flatMap(({ metrics }) => metrics)
    }))
    return { collected }
  })
).pipe(Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })))

// Prints the children of each span below it, in the order of their start.
const linesOf = (spans: Telemetry["spans"], parent?: string, indent = ""): ReadonlyArray<string> => {
  const children = spans.filter(({ parentSpanId }) => parentSpanId === parent)
  return Arr.sortWith(children, ({ startTimeUnixNano }) => startTimeUnixNano, Order.String).flatMap((span) => {
    const name = parent === undefined ? `${span.service}: ${span.name}` : `${indent}${span.name}`
    const links = spans.filter(({ spanId }) => span.links.some((link) => link.spanId === spanId))
    const facts = [
      attributeIn(span.attributes, "query_state.event"),
      attributeIn(span.attributes, "error.type"),
      ...links.map(({ name, service }) => `linked to ${name} of ${service}`)
    ].filter((fact) => fact !== undefined)
    return [[name, ...facts].join(", ")].concat(linesOf(spans, span.spanId, `${indent}  `))
  })
}

const kindOf = ({ sum }: typeof Metric.Type) =>
  sum === undefined ? "histogram" : sum.isMonotonic ? "counter" : "up-down counter"

/** Prints what does not differ from run to run. */
export const print = Effect.gen(function*() {
  const { collected } = yield* Collector
  const { metrics, spans } = yield* collected
  const series = new Set(metrics.map((metric) => `${metric.name}: ${kindOf(metric)}, unit ${metric.unit}`))
  yield* Effect.forEach([...linesOf(spans), ...[...series].toSorted()], (line) => Console.log(line))
})
