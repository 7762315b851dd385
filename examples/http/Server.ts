/**
 * Serves FlowMachine's API for queries, which are run once, however many servers there are. A client that hangs up interrupts
 * its request, and so does a server that stops: a run is handed over then, to a server that waits for it or is asked next.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Fiber, FiberSet, Layer, Option, Stream } from "effect"
import { QueryKey, type QueryRecord, QueryState, QueryStateMachine, Reason, RedisStore } from "effect-query-state"
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

/** Whether a run ended without a result, and nobody decided that it should. */
const isHandedOver = ({ state }: QueryRecord.QueryRecord): boolean =>
  "reason" in state && (state.reason._tag === "Interrupted" || state.reason._tag === "LeaseExpired")

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
    // Runs that no request waits for. When the server stops, it interrupts them.
    const runs = yield* FiberSet.make()

    // The API accepts only valid ids.
    const queryOf = (query: string) =>
      Effect.provideService(QueryStateMachine.make(QueryKey.makeUnsafe({ db, query })), RedisStore.RedisStore, store)

    const run = (query: QueryStateMachine.QueryStateMachine, isRequested: boolean) =>
      query.run({
        execute: (claim) => reports.compute(query.key.query, claim),
        result: reports.rows(query.key.query),
        // A new request for a failed or cancelled query runs it again.
        recover: () => isRequested
      })

    /** Runs a query in the background, and ends when it is Queued at least. */
    const begin = Effect.fnUntraced(function*(query: QueryStateMachine.QueryStateMachine, isRequested: boolean) {
      const fiber = yield* FiberSet.run(runs, run(query, isRequested))
      const isBegun = query.changes.pipe(
        Stream.filter(({ state }) => ["Queued", "Executing", "Completed"].includes(state._tag)),
        Stream.runHead
      )
      yield* Effect.raceFirst(isBegun, Fiber.await(fiber))
    })

    /** The record of a query. A query that was handed over goes on here. */
    const look = Effect.fnUntraced(function*(query: QueryStateMachine.QueryStateMachine) {
      const record = yield* query.record
      if (!isHandedOver(record)) return record
      yield* begin(query, false)
      return yield* query.record
    })

    return handlers.handleAll({
      run: Effect.fnUntraced(function*({ payload: { report } }) {
        yield* begin(yield* queryOf(report), true)
        return goOnAt(`/api/0/poll/${report}`)
      }, Effect.catchTag("RedisStoreError", unavailable)),

      poll: Effect.fnUntraced(function*({ params: { id } }) {
        const record = yield* look(yield* queryOf(id))
        return yield* answer(record, Effect.succeed(goOnAt(`/api/0/get/${encodeURIComponent(id)}`)))
      }, Effect.catchTag("RedisStoreError", unavailable)),

      get: Effect.fnUntraced(function*({ params: { id } }) {
        const record = yield* look(yield* queryOf(id))
        if (record.state._tag === "Errored") return yield* new NoResult(standingOf(record))
        return yield* answer(record, Effect.map(reports.rows(id), Option.getOrElse(() => [])))
      }, Effect.catchTag("RedisStoreError", unavailable)),

      rows: Effect.fnUntraced(function*({ params: { id } }) {
        const query = yield* queryOf(id)
        const failed = Effect.flatMap(query.record, (record) => new Failed(standingOf(record)))
        return yield* Effect.catchIf(run(query, true), (error) => error._tag !== "RedisStoreError", () => failed)
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
