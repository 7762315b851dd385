/** The variants of FlowMachine, below the layer and its scripts. */

/**
 * Which FlowMachine the Redis is shared with.
 *
 * **Details**
 *
 * - `released`: one of seven states. Nothing is written that it could not read: no query becomes ResetFailed. An `Error` is
 *   refused for a query that is Resetting, so that a purge which fails leaves it Resetting, as it does in FlowMachine. When
 *   the lease of that purge lapses, the query is Errored, and can be reset again. FlowMachine has no such edge, but the state.
 * - `reset-failed`: a development version, of eight states. A released one fails to read a query that is ResetFailed.
 *
 * @category models
 * @since 0.1.0
 */
export type Dialect = "released" | "reset-failed"
