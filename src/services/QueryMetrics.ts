/**
 * Metrics of the queries that this process works with.
 *
 * They are counted in Effect's `MetricRegistry`, always; an exporter, such as that of `effect/observability`, sends them on.
 * None is labelled by a query, so that their number is bounded.
 *
 * @module
 * @since 0.1.0
 */
import * as Metric from "effect/Metric"
import * as QueryEvent from "../domain/QueryEvent.ts"
import * as QueryState from "../domain/QueryState.ts"
import { type Failure, failureTags } from "./RedisStoreError.ts"

// A metric that is made with its attributes keeps the key of its series, so that counting costs one look-up.
const each = <Name extends string, A>(names: ReadonlyArray<Name>, make: (name: Name) => A): Readonly<Record<Name, A>> =>
  Object.fromEntries(names.map((name) => [name, make(name)])) as Record<Name, A>

// From a millisecond to seventy minutes, each four times the one before.
const boundaries = Metric.exponentialBoundaries({ start: 0.001, factor: 4, count: 12 })

/**
 * What can become of a transition that is asked for.
 *
 * @category models
 * @since 0.1.0
 */
export type TransitionOutcome = "changed" | "refused" | "lease_lost" | "failed"

/**
 * `query_state.transitions`: transitions that this process asked for, by `query_state.event` and `query_state.outcome`.
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
        description: "Transitions that were asked for",
        incremental: true,
        attributes: { "query_state.event": event, "query_state.outcome": outcome }
      }))
)

/**
 * `query_state.state.duration`: how long queries had been in a state, by `query_state.state`, in seconds; counted by the
 * process that moves the query on.
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
 * `query_state.leases.lapsed`: leases that lapsed; counted by the process that settles it, and so once each.
 *
 * @category metrics
 * @since 0.1.0
 */
export const leasesLapsed: Metric.Counter<number> = Metric.counter("query_state.leases.lapsed", {
  description: "Leases that lapsed",
  incremental: true
})

/**
 * `query_state.claims.held`: claims that this process holds at the moment, with work under way.
 *
 * @category metrics
 * @since 0.1.0
 */
export const claimsHeld: Metric.Counter<number> = Metric.counter("query_state.claims.held", {
  description: "Claims that are held"
})

/**
 * How a wait can end: with an outcome of the query, with its schedule or time-out, with an error, or by an interruption.
 *
 * @category models
 * @since 0.1.0
 */
export type WaitOutcome = "determinate" | "still_pending" | "failed" | "interrupted"

/**
 * `query_state.wait.duration`: how long waits for a pending query took, by `query_state.outcome`, in seconds.
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
 * What can make a wait look: a hint, the end of the lease of the holder, or the schedule.
 *
 * @category models
 * @since 0.1.0
 */
export type WakeUpSource = "hint" | "lease" | "backstop"

/**
 * `query_state.wait.wake_ups`: what made waits look again, by `query_state.source`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const wakeUps: Readonly<Record<WakeUpSource, Metric.Counter<number>>> = each(
  ["hint", "lease", "backstop"],
  (source) =>
    Metric.counter("query_state.wait.wake_ups", {
      description: "What made waits look again",
      incremental: true,
      attributes: { "query_state.source": source }
    })
)

/**
 * `query_state.store.errors`: operations of the store that failed, by `error.type`, which is the reason.
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
