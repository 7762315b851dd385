/** The variants of FlowMachine, below the layer and its scripts. */

/**
 * Which FlowMachine the Redis is shared with.
 *
 * **Details**
 *
 * - `released`: a released version, with seven states. It cannot read ResetFailed, so no query becomes ResetFailed: an `Error`
 *   is refused while the query is Resetting. If a purge fails, the query stays Resetting, as in FlowMachine. If the lease of a
 *   purge lapses, the claim ends, and the query stays Resetting until a process finishes the reset.
 * - `reset-failed`: a development version, with eight states. A released version cannot read a query that is ResetFailed.
 *
 * @category models
 * @since 0.1.0
 */
export type Dialect = "released" | "reset-failed"
