/**
 * Spans and metrics in an OpenTelemetry collector. One process runs a query and another waits for it, each in its own trace.
 * The span of the wait links to the span of the run.
 *
 *     npx tsx examples/opentelemetry.ts    # starts a fake collector, and prints what it received
 *     OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 npx tsx examples/opentelemetry.ts
 */
import * as NodeSdk from "@effect/opentelemetry/NodeSdk"
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-http"
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http"
import { PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics"
import { BatchSpanProcessor } from "@opentelemetry/sdk-trace-node"
import { Config, Console, Effect, Latch, Metric, Option, Schedule, Stream } from "effect"
import { QueryKey, QueryStateMachine } from "effect-query-state"
import * as Collector from "./support/Collector.ts"
import { db, FurtherStoreLayer, StoreLayer } from "./support/StoreLayer.ts"

// Your program needs only this. The exporters send to OTEL_EXPORTER_OTLP_ENDPOINT.
const telemetry = (serviceName: string) =>
  NodeSdk.layer(() => ({
    resource: { serviceName },
    spanProcessor: new BatchSpanProcessor(new OTLPTraceExporter()),
    metricReader: new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter() })
  }))

// Simulates two processes in one: each has its own store, tracer and metrics.
const asProcess = <A, E, R>(serviceName: string, self: Effect.Effect<A, E, R>) =>
  self.pipe(
    Effect.provide([telemetry(serviceName), FurtherStoreLayer]),
    Effect.provideService(Metric.MetricRegistry, new Map())
  )

const processes = Effect.gen(function*() {
  const makeQuery = QueryStateMachine.make(yield* QueryKey.make({ db, query: "forecast" }))
  const isWaitedFor = yield* Latch.make()

  const worker = Effect.gen(function*() {
    const query = yield* makeQuery
    yield* query.run({
      execute: (claim) =>
        claim.report({ done: 1, total: 2 }).pipe(
          Effect.andThen(isWaitedFor.await),
          Effect.as("1,204 rows"),
          Effect.withSpan("compute")
        ),
      result: Effect.succeedSome("1,204 rows")
    })
  })

  const dashboard = Effect.gen(function*() {
    const query = yield* makeQuery
    yield* query.changes.pipe(Stream.filter(({ progress }) => progress !== undefined), Stream.runHead)
    // This wait times out, so its span has failed.
    yield* Effect.flip(query.waitUntilComplete({ timeout: "20 millis" }))
    yield* query.run({
      execute: () => Effect.die("the worker runs it"),
      result: Effect.succeedSome("1,204 rows"),
      // The wait has begun when it asks its schedule for the next read.
      schedule: Schedule.tap(Schedule.spaced("1 second"), () => isWaitedFor.open)
    })
  })

  yield* Effect.all([asProcess("worker", worker), asProcess("dashboard", dashboard)], { concurrency: "unbounded" })
})

const main = Effect.gen(function*() {
  const endpoint = yield* Config.option(Config.String("OTEL_EXPORTER_OTLP_ENDPOINT"))
  yield* Option.match(endpoint, {
    onSome: (url) => Effect.andThen(Console.log(`Exporting to ${url}`), processes),
    onNone: () => Effect.andThen(processes, Collector.print).pipe(Effect.provide(Collector.layer))
  })
})

await Effect.runPromise(Effect.provide(main, StoreLayer))

/* Prints:

worker: QueryStateMachine.run
  QueryStateMachine.trigger, Queue, Execute
  compute
  QueryStateMachine.trigger, Finish
dashboard: QueryStateMachine.waitUntilComplete, StillPending, linked to QueryStateMachine.run of worker
dashboard: QueryStateMachine.run
  QueryStateMachine.trigger, Queue, Execute
  QueryStateMachine.waitUntilComplete, linked to QueryStateMachine.run of worker
query_state.claims.held: up-down counter, unit 1
query_state.state.duration: histogram, unit s
query_state.transitions: counter, unit 1
query_state.wait.duration: histogram, unit s
query_state.wait.wake_ups: counter, unit 1
*/
