/** The variants of FlowMachine, below the layer and its scripts. */

/**
 * Which FlowMachine the Redis is shared with.
 *
 * **Details**
 *
 * - `released`: a released version, with seven states. It cannot read ResetFailed, so no query becomes ResetFailed: an `Error`
 *   is refused while the query is Resetting. If a purge fails, the query stays Resetting, as in FlowMachine. If the lease of
 *   the purge lapses, the query becomes Errored and can be reset again. FlowMachine knows the state, but has no such edge.
 * - `reset-failed`: a development version, with eight states. A released version cannot read a query that is ResetFailed.
 *
 * @category models
 * @since 0.1.0
 */
export type Dialect = "released" | "reset-failed"
