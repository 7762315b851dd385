/**
 * Typed errors about one query.
 *
 * @module
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { QueryEvent } from "./QueryEvent.ts"
import * as QueryKey from "./QueryKey.ts"
import * as QueryRecord from "./QueryRecord.ts"
import * as QueryState from "./QueryState.ts"
import * as Reason from "./Reason.ts"

const Tag = Schema.Literals(QueryState.tags)

/**
 * Error for an event that the lifecycle does not accept in the current state of the query.
 *
 * @category errors
 * @since 0.1.0
 */
export class IllegalTransition
  extends Schema.TaggedError<IllegalTransition>("effect-query-state/QueryError/IllegalTransition")(
    "IllegalTransition",
    {
      from: Tag,
      event: QueryEvent,
      acceptedIn: Schema.Array(Tag),
      record: Schema.optionalKey(QueryRecord.QueryRecord)
    }
  )
{
  override get message(): string {
    const query = this.record === undefined ? "a query" : `query ${QueryKey.format(this.record.key)}`
    const state = this.record === undefined
      ? QueryState.descriptions[this.from]
      : QueryState.format(this.record.state)
    return `${this.event} is refused for ${query}, which ${state}: ${this.event} takes a query that is ${
      this.acceptedIn.join(" or ")
    }`
  }
}

/**
 * Error for a claim that is no longer held: its lease lapsed, the query was cancelled, or the record was deleted. Nothing
 * was written. `fence` is the lost claim, and `record` is the current record.
 *
 * @category errors
 * @since 0.1.0
 */
export class LeaseLost extends Schema.TaggedError<LeaseLost>("effect-query-state/QueryError/LeaseLost")("LeaseLost", {
  fence: Schema.Int,
  record: QueryRecord.QueryRecord
}) {
  override get message(): string {
    return `Claim ${this.fence} on query ${
      QueryKey.format(this.record.key)
    } is lost, so nothing was written: the query ${
      QueryState.format(this.record.state)
    } (version ${this.record.version}). Discard what the work did under this claim`
  }
}

/**
 * Error for a wait that ended while the query was still pending: its schedule or time-out ended. `record` is the last
 * record that the wait has seen.
 *
 * @category errors
 * @since 0.1.0
 */
export class StillPending
  extends Schema.TaggedError<StillPending>("effect-query-state/QueryError/StillPending")("StillPending", {
    record: QueryRecord.QueryRecord
  })
{
  override get message(): string {
    return `Stopped waiting: ${QueryRecord.format(this.record)}. Wait again, longer, or cancel the query`
  }
}

/**
 * Error for a query whose run failed. `attempts` counts its executions since it was last Completed or reset to Known.
 *
 * @category errors
 * @since 0.1.0
 */
export class QueryErrored
  extends Schema.TaggedError<QueryErrored>("effect-query-state/QueryError/QueryErrored")("QueryErrored", {
    key: QueryKey.QueryKey,
    reason: Reason.Reason,
    attempts: Schema.optionalKey(Schema.Int)
  })
{
  override get message(): string {
    const query = `Query ${QueryKey.format(this.key)}`
    const { attempts = 1, reason } = this
    return reason._tag === "LeaseExpired" && attempts > 1
      ? `${query} was given up after ${attempts} attempts without an outcome (${
        Reason.format(reason)
      }). The work seems to end or block the process that runs it: mend that first, then reset the query`
      : `${query} failed (${Reason.format(reason)}). Reset it, or let recover answer true, to run it again`
  }
}

/**
 * Error for a query that was cancelled.
 *
 * @category errors
 * @since 0.1.0
 */
export class QueryCancelled
  extends Schema.TaggedError<QueryCancelled>("effect-query-state/QueryError/QueryCancelled")("QueryCancelled", {
    key: QueryKey.QueryKey,
    reason: Reason.Reason
  })
{
  override get message(): string {
    return `Query ${QueryKey.format(this.key)} was cancelled (${
      Reason.format(this.reason)
    }). Reset it, or let recover answer true, to run it again`
  }
}

/**
 * Error for a query whose reset failed. Results of an earlier run may still be there.
 *
 * @category errors
 * @since 0.1.0
 */
export class QueryResetFailed
  extends Schema.TaggedError<QueryResetFailed>("effect-query-state/QueryError/QueryResetFailed")("QueryResetFailed", {
    key: QueryKey.QueryKey,
    reason: Reason.Reason
  })
{
  override get message(): string {
    return `Query ${QueryKey.format(this.key)} could not be reset (${Reason.format(this.reason)}). Reset it again`
  }
}

/**
 * Error for a run that would wait for itself, directly or through other queries: it would wait for ever. `path` names the
 * way: each query waits for the next, and the last is the first.
 *
 * @category errors
 * @since 0.1.0
 */
export class QueryCycle
  extends Schema.TaggedError<QueryCycle>("effect-query-state/QueryError/QueryCycle")("QueryCycle", {
    path: Schema.Array(QueryKey.QueryKey)
  })
{
  override get message(): string {
    return `Queries wait for each other: ${
      this.path.map(QueryKey.format).join(" -> ")
    }. None would ever end: let one of them work without the result of the next`
  }
}
