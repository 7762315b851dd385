/**
 * Run once or join in front of a slow SQL query. The fence in the SQL refuses the late write of a frozen process.
 *
 *     npx tsx examples/sql.ts
 */
import { Console, Effect, Layer, Option, Schema } from "effect"
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
  const findTotal = SqlSchema.findOneOption({
    Request: Schema.String,
    Result: Total,
    execute: (query) => sql`SELECT total FROM results WHERE query = ${query} AND total IS NOT NULL`
  })
  const fetch = (query: string) => Effect.map(findTotal(query), Option.map(({ total }) => total))

  // Writes a result, unless there is one with a larger fence. Answers whether it wrote.
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
    result: fetch(id),
    // Keeps the row: a deleted row would lose the fence, and accept late writes.
    purge: ({ fence }) => write(id, null, fence)
  })

  // A process claims the query and freezes, so nothing renews its lease.
  yield* query.enqueue
  const { state } = yield* query.trigger("Execute", { holder: "frozen", lease: "100 millis" })
  const fence = QueryState.claimOf(state)?.fence ?? 0

  // Five fibers want the total. They wait until the lease of the frozen process is over. Then one of them computes it.
  yield* Console.log(yield* Effect.replicateEffect(total, 5, { concurrency: "unbounded" }))

  // The frozen process resumes where it was.
  const isWritten = yield* write(id, 7, fence)
  const error = yield* Effect.flip(query.trigger("Finish", { fence }))
  yield* Console.log(
    `the late write was ${isWritten ? "accepted" : "refused"}, and its outcome failed with ${error._tag}`
  )
  yield* Console.log(Option.getOrNull(yield* fetch(id)))
})

await Effect.runPromise(Effect.provide(main, Layer.merge(StoreLayer, SqliteLayer)))

/* Prints:

computing
[ 5000050000, 5000050000, 5000050000, 5000050000, 5000050000 ]
the late write was refused, and its outcome failed with LeaseLost
5000050000
*/
