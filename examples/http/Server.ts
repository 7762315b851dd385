/**
 * Serves FlowMachine's API for queries, and runs them in the background: once, however many servers there are.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Fiber, FiberSet, Layer, Stream } from "effect"
import {
  type QueryClaim,
  QueryKey,
  type QueryRecord,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStore
} from "effect-query-state"
import { HttpRouter } from "effect/http"
import { HttpApiBuilder, HttpApiError, HttpApiSchema } from "effect/http-api"
import { createServer } from "node:http"
import { db } from "../support/StoreLayer.ts"
import { Api, Failed, Missing, NoResult, Refused } from "./Api.ts"
import { Reports } from "./Reports.ts"

const standingOf = ({ progress, state }: QueryRecord.QueryRecord) => ({
  status: QueryState.wireNames[state._tag],
  msg: QueryState.format(state),
  ...(progress === undefined ? undefined : { progress })
})

const goOnAt = (location: string) => HttpApiSchema.withHeaders({ body: undefined, headers: { location } })

const unavailable = () => new HttpApiError.ServiceUnavailable()

/** Answers by the state of the query. For a Completed query it gives the answer of the caller. */
const answer = Effect.fnUntraced(function*<A>(record: QueryRecord.QueryRecord, completed: Effect.Effect<A>) {
  switch (record.state._tag) {
    case "Completed":
      return yield* completed
    case "Queued":
    case "Executing":
      return standingOf(record)
    case "Known":
    case "Resetting":
      return yield* new Missing(standingOf(record))
    case "Errored":
    case "Cancelled":
    case "ResetFailed":
      return yield* new Failed(standingOf(record))
  }
})

const HandlersLayer = HttpApiBuilder.group(
  Api,
  "queries",
  Effect.fnUntraced(function*(handlers) {
    const reports = yield* Reports
    const store = yield* RedisStore.RedisStore
    // When the server stops, it interrupts these runs, and their queries become Cancelled.
    const runs = yield* FiberSet.make()

    // The API accepts only valid ids.
    const queryOf = (query: string) =>
      Effect.provideService(QueryStateMachine.make(QueryKey.makeUnsafe({ db, query })), RedisStore.RedisStore, store)

    return handlers.handleAll({
      run: Effect.fnUntraced(function*({ payload: { report } }) {
        const query = yield* queryOf(report)
        // A new request for a failed or cancelled query runs it again.
        const { state } = yield* query.record
        if ("reason" in state) yield* Effect.ignore(query.withReset(() => Effect.void))

        const execute = (claim: QueryClaim.QueryClaim) => reports.compute(report, claim)
        const fiber = yield* FiberSet.run(runs, query.run({ execute, result: Effect.succeedSome(undefined) }))
        // A client that polls at once then finds the query Queued at least.
        const isBegun = query.changes.pipe(
          Stream.filter(({ state }) => ["Queued", "Executing", "Completed"].includes(state._tag)),
          Stream.runHead
        )
        yield* Effect.raceFirst(isBegun, Fiber.await(fiber))
        return goOnAt(`/api/0/poll/${report}`)
      }, Effect.catchTag("RedisStoreError", unavailable)),

      poll: Effect.fnUntraced(function*({ params: { id } }) {
        const query = yield* queryOf(id)
        return yield* answer(yield* query.record, Effect.succeed(goOnAt(`/api/0/get/${encodeURIComponent(id)}`)))
      }, Effect.catchTag("RedisStoreError", unavailable)),

      get: Effect.fnUntraced(function*({ params: { id } }) {
        const query = yield* queryOf(id)
        const record = yield* query.record
        if (record.state._tag === "Errored") return yield* new NoResult(standingOf(record))
        return yield* answer(record, reports.rows(id))
      }, Effect.catchTag("RedisStoreError", unavailable)),

      cancel: Effect.fnUntraced(function*({ params: { id } }) {
        const query = yield* queryOf(id)
        yield* query.trigger("Cancel", { reason: Reason.requested({ by: "a client" }) })
        const record = yield* query.record
        if (record.state._tag === "Known") return yield* new Missing(standingOf(record))
        return record.state._tag === "Cancelled" ? standingOf(record) : yield* new Refused(standingOf(record))
      }, Effect.catchTag("RedisStoreError", unavailable))
    })
  })
)

/** The API on a port of this machine; 0 picks a free one. */
export const layer = (port: number) =>
  HttpRouter.serve(HttpApiBuilder.layer(Api), { disableListenLog: true, disableLogger: true }).pipe(
    Layer.provide(HandlersLayer),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port }))
  )
