/**
 * Run once or join in front of a slow SQL query, with the fence in the SQL: what a frozen process writes late is refused.
 *
 *     npx tsx examples/sql.ts
 */
import { Console, Effect, Layer, Schema } from "effect"
import { QueryKey, QueryState, QueryStateMachine } from "effect-query-state"
import { SqlClient, SqlSchema } from "effect/sql"
import { SqliteLayer } from "./support/sqlite.ts"
import { db, StoreLayer } from "./support/StoreLayer.ts"

const Total = Schema.Struct({ total: Schema.Int })

const main = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE results (query TEXT PRIMARY KEY, total INTEGER, fence INTEGER NOT NULL)`

  const compute = SqlSchema.findOne({
    Request: Schema.Void,
    Result: Total,
    execute: () =>
      sql`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT sum(i) AS total FROM n`
  })
  const fetch = SqlSchema.findOne({
    Request: Schema.String,
    Result: Total,
    execute: (query) => sql`SELECT total FROM results WHERE query = ${query}`
  })

  // Writes a result, unless one with a later fence is there. Answers whether it did.
  const write = (query: string, total: number | null, fence: number) =>
    sql`
      INSERT INTO results (query, total, fence) VALUES (${query}, ${total}, ${fence})
      ON CONFLICT (query) DO UPDATE SET total = excluded.total, fence = excluded.fence
      WHERE results.fence < excluded.fence
      RETURNING query
    `.pipe(Effect.map((rows) => rows.length === 1))

  const query = yield* QueryStateMachine.make(yield* QueryKey.make({ db, query: "grand total" }))
  const { query: id } = query.key

  const total = query.run({
    execute: ({ fence }) =>
      Effect.gen(function*() {
        yield* Console.log("computing")
        const { total } = yield* compute()
        yield* write(id, total, fence)
        return total
      }),
    onCompleted: Effect.map(fetch(id), ({ total }) => total),
    // A row that was deleted would have forgotten its fence, and let anything in.
    purge: ({ fence }) => write(id, null, fence)
  })

  // A process claims the query, and freezes: nothing renews its lease.
  yield* query.enqueue
  const { state } = yield* query.trigger("Execute", { holder: "frozen", lease: "100 millis" })
  const fence = QueryState.claimOf(state)?.fence ?? 0

  // Five want the total. They wait for the frozen one until its lease is over; then one of them computes it.
  yield* Console.log(yield* Effect.replicateEffect(total, 5, { concurrency: "unbounded" }))

  // It thaws, knows nothing of all that, and goes on where it was.
  const isWritten = yield* write(id, 7, fence)
  const error = yield* Effect.flip(query.trigger("Finish", { fence }))
  yield* Console.log(`the late write was ${isWritten ? "accepted" : "refused"}, its outcome too: ${error._tag}`)
  yield* Console.log(yield* fetch(id))
})

await Effect.runPromise(Effect.provide(main, Layer.merge(StoreLayer, SqliteLayer)))

/* Prints:

computing
[ 5000050000, 5000050000, 5000050000, 5000050000, 5000050000 ]
the late write was refused, its outcome too: LeaseLost
{ total: 5000050000 }
*/
