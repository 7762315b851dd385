/**
 * The work behind the queries: it computes and stores a result, and reads it.
 */
import { Context, type Effect, Schema } from "effect"
import type { QueryClaim } from "effect-query-state"
import type { Report } from "./Api.ts"

export class ReportError extends Schema.TaggedError<ReportError>()("ReportError", { message: Schema.String }) {}

export class Reports extends Context.Service<Reports, {
  readonly compute: (report: Report, claim: QueryClaim.QueryClaim) => Effect.Effect<void, ReportError>
  readonly rows: (id: string) => Effect.Effect<ReadonlyArray<string>>
}>()("examples/http/Reports") {}
