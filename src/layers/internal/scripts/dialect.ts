/** The variants of FlowMachine, below the layer and its scripts. */

/**
 * Which FlowMachine the Redis is shared with.
 *
 * **Details**
 *
 * - `released`: one of seven states. Nothing is written that it could not read: no query becomes ResetFailed. An `Error` is
 *   refused for a query that is Resetting, so that a purge which fails leaves it Resetting, as it does in FlowMachine; and
 *   where the lease of a purge lapses, the claim ends and the query stays Resetting, until somebody finishes resetting it.
 * - `reset-failed`: a development version, of eight states. A released one fails to read a query that is ResetFailed.
 *
 * @category models
 * @since 0.1.0
 */
export type Dialect = "released" | "reset-failed"
