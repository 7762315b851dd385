/**
 * Metrics of the queries that this process works with.
 *
 * They are always counted, in Effect's `MetricRegistry`. An exporter, such as that of `effect/observability`, sends them.
 * No attribute names a query, so the number of series is bounded.
 *
 * @module
 * @since 0.1.0
 */
import * as Metric from "effect/Metric"
import * as QueryEvent from "../domain/QueryEvent.ts"
import * as QueryState from "../domain/QueryState.ts"
import { type Failure, failureTags } from "./RedisStoreError.ts"

// A metric that is made with its attributes caches the key of its series, so that an update costs one look-up (benchmark:
// transitions a second).
const each = <Name extends string, A>(names: ReadonlyArray<Name>, make: (name: Name) => A): Readonly<Record<Name, A>> =>
  Object.fromEntries(names.map((name) => [name, make(name)])) as Record<Name, A>

// From 1 ms to 70 minutes, each four times the one before.
const boundaries = Metric.exponentialBoundaries({ start: 0.001, factor: 4, count: 12 })

/**
 * Result of a transition.
 *
 * @category models
 * @since 0.1.0
 */
export type TransitionOutcome = "changed" | "refused" | "lease_lost" | "failed"

/**
 * `query_state.transitions`: transitions that this process requested, by `query_state.event` and `query_state.outcome`.
 *
 * **Example**
 *
 * ```ts
 * import { Effect, Metric } from "effect"
 * import { QueryMetrics } from "effect-query-state"
 *
 * const queued = Effect.map(Metric.value(QueryMetrics.transitions.Queue.changed), ({ count }) => count)
 * ```
 *
 * @category metrics
 * @since 0.1.0
 */
export const transitions: Readonly<
  Record<QueryEvent.QueryEvent, Readonly<Record<TransitionOutcome, Metric.Counter<number>>>>
> = each(
  QueryEvent.all,
  (event) =>
    each(["changed", "refused", "lease_lost", "failed"], (outcome) =>
      Metric.counter("query_state.transitions", {
        description: "Transitions that were requested",
        incremental: true,
        attributes: { "query_state.event": event, "query_state.outcome": outcome }
      }))
)

/**
 * `query_state.state.duration`: how long queries were in a state, by `query_state.state`, in seconds. The process that ends
 * the state counts it.
 *
 * @category metrics
 * @since 0.1.0
 */
export const stateDuration: Readonly<Record<QueryState.Tag, Metric.Histogram<number>>> = each(
  QueryState.tags,
  (state) =>
    Metric.histogram("query_state.state.duration", {
      description: "Time that queries spent in a state",
      boundaries,
      attributes: { unit: "s", "query_state.state": state }
    })
)

/**
 * `query_state.leases.lapsed`: leases that lapsed. The process that settles a lease counts it, so each counts once.
 *
 * @category metrics
 * @since 0.1.0
 */
export const leasesLapsed: Metric.Counter<number> = Metric.counter("query_state.leases.lapsed", {
  description: "Leases that lapsed",
  incremental: true
})

/**
 * `query_state.claims.held`: claims that this process holds now.
 *
 * @category metrics
 * @since 0.1.0
 */
export const claimsHeld: Metric.Counter<number> = Metric.counter("query_state.claims.held", {
  description: "Claims that are held"
})

/**
 * How a wait ends: with the outcome of the query, with its schedule or time-out, with an error, or by an interruption.
 *
 * @category models
 * @since 0.1.0
 */
export type WaitOutcome = "determinate" | "still_pending" | "failed" | "interrupted"

/**
 * `query_state.wait.duration`: how long waits for pending queries took, by `query_state.outcome`, in seconds.
 *
 * @category metrics
 * @since 0.1.0
 */
export const waitDuration: Readonly<Record<WaitOutcome, Metric.Histogram<number>>> = each(
  ["determinate", "still_pending", "failed", "interrupted"],
  (outcome) =>
    Metric.histogram("query_state.wait.duration", {
      description: "Time that waits took",
      boundaries,
      attributes: { unit: "s", "query_state.outcome": outcome }
    })
)

/**
 * What wakes a wait: a notification or a gap in the notifications, the end of a lease or of a time to live, or the backstop.
 *
 * @category models
 * @since 0.1.0
 */
export type WakeUpSource = "notification" | "lease" | "backstop"

/**
 * `query_state.wait.wake_ups`: what woke waits, by `query_state.source`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const wakeUps: Readonly<Record<WakeUpSource, Metric.Counter<number>>> = each(
  ["notification", "lease", "backstop"],
  (source) =>
    Metric.counter("query_state.wait.wake_ups", {
      description: "What woke waits",
      incremental: true,
      attributes: { "query_state.source": source }
    })
)

/**
 * `query_state.store.errors`: operations of the store that failed, by `error.type`, the name of the failure.
 *
 * @category metrics
 * @since 0.1.0
 */
export const storeErrors: Readonly<Record<Failure["_tag"], Metric.Counter<number>>> = each(
  failureTags,
  (reason) =>
    Metric.counter("query_state.store.errors", {
      description: "Operations of the store that failed",
      incremental: true,
      attributes: { "error.type": reason }
    })
)
