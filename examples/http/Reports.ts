/**
 * The work behind the queries: it computes and stores a result, and reads it.
 */
import { Context, type Effect, type Option, Schema } from "effect"
import type { QueryClaim } from "effect-query-state"

export class ReportError extends Schema.TaggedError<ReportError>()("ReportError", { message: Schema.String }) {}

export type Rows = ReadonlyArray<string>

export class Reports extends Context.Service<Reports, {
  /** Computes the rows of a report, and stores them. */
  readonly compute: (id: string, claim: QueryClaim.QueryClaim) => Effect.Effect<Rows, ReportError>
  /** The stored rows of a report, if there are any. */
  readonly rows: (id: string) => Effect.Effect<Option.Option<Rows>>
}>()("examples/http/Reports") {}
