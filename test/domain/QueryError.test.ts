import { assert, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { QueryError, QueryKey, QueryRecord, QueryState, Reason, Transition } from "effect-query-state"

const key = QueryKey.makeUnsafe({ db: "warehouse", query: "daily totals" })
const reason = Reason.failed({ error: "SqlError", message: "deadlock", detail: "at line 3" })
const executing: QueryRecord.QueryRecord = { key, state: QueryState.make("Executing"), version: 7, attempts: 1 }
const errored: QueryRecord.QueryRecord = { key, state: QueryState.make("Errored", { reason }), version: 8, attempts: 1 }

const errors = [
  {
    error: Transition.refusal(executing, "Reset"),
    message: "Reset is refused for query warehouse/daily totals, which is currently running: " +
      "Reset takes a query that is Completed or Errored or Cancelled or ResetFailed"
  },
  {
    error: Transition.refusal(errored, "Queue"),
    message: "Queue is refused for query warehouse/daily totals, which finished with an error (SqlError: deadlock): " +
      "Queue takes a query that is Known"
  },
  {
    error: new QueryError.IllegalTransition({ from: "Known", event: "Finish", acceptedIn: ["Executing"] }),
    message: "Finish is refused for a query, which is known, but has not yet been run: " +
      "Finish takes a query that is Executing"
  },
  {
    error: new QueryError.LeaseLost({ fence: 7, record: errored }),
    message: "Claim 7 on query warehouse/daily totals is lost, so nothing was written: " +
      "the query finished with an error (SqlError: deadlock) (version 8). " +
      "Discard what the work did under this claim"
  },
  {
    error: new QueryError.StillPending({ record: executing }),
    message: "Stopped waiting: query warehouse/daily totals is currently running. " +
      "Wait again, longer, or cancel the query"
  },
  {
    error: new QueryError.QueryErrored({ key, reason }),
    message: "Query warehouse/daily totals failed (SqlError: deadlock). " +
      "Reset it, or let recover answer true, to run it again"
  },
  {
    error: new QueryError.QueryErrored({ key, reason, attempts: 3 }),
    message: "Query warehouse/daily totals failed (SqlError: deadlock). " +
      "Reset it, or let recover answer true, to run it again"
  },
  {
    error: new QueryError.QueryErrored({ key, reason: Reason.leaseExpired("worker 1"), attempts: 3 }),
    message: "Query warehouse/daily totals was given up after 3 attempts without an outcome " +
      `(${Reason.format(Reason.leaseExpired("worker 1"))}). ` +
      "The work seems to end or block the process that runs it: mend that first, then reset the query"
  },
  {
    error: new QueryError.QueryCancelled({ key, reason: Reason.requested({ by: "ada" }) }),
    message: "Query warehouse/daily totals was cancelled (requested by ada). " +
      "Reset it, or let recover answer true, to run it again"
  },
  {
    error: new QueryError.QueryResetFailed({ key, reason: Reason.interrupted }),
    message: "Query warehouse/daily totals could not be reset (its fiber was interrupted). Reset it again"
  },
  {
    error: new QueryError.QueryCycle({ path: [key, QueryKey.makeUnsafe({ db: "warehouse", query: "stock" }), key] }),
    message: "Queries wait for each other: " +
      "warehouse/daily totals -> warehouse/stock -> warehouse/daily totals. " +
      "None would ever end: let one of them work without the result of the next"
  }
]

it.each(errors)("$error._tag names the query and says what to do", ({ error, message }) => {
  assert.strictEqual(error.message, message)
  assert.include(String(error), message)
})

const AnyError = Schema.Union([
  QueryError.IllegalTransition,
  QueryError.LeaseLost,
  QueryError.StillPending,
  QueryError.QueryErrored,
  QueryError.QueryCancelled,
  QueryError.QueryResetFailed,
  QueryError.QueryCycle
])
const codec = Schema.fromJsonString(Schema.toCodecJson(AnyError))

it.effect.each(errors)(
  "$error._tag can be yielded and survives JSON",
  ({ error }) =>
    Effect.gen(function*() {
      const failure = yield* Effect.flip<never, typeof AnyError.Type, never>(error)
      assert.strictEqual(failure, error)
      assert.instanceOf(failure, Error)
      const back = yield* Effect.flatMap(Schema.encodeEffect(codec)(error), Schema.decodeEffect(codec))
      assert.deepStrictEqual<object>({ ...back, message: back.message }, { ...error, message: error.message })
    })
)
