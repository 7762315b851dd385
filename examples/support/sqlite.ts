/**
 * SQLite in the memory of this process, as a client of `effect/sql`.
 *
 * Your program uses the layer of a package instead, such as `PgClient.layer` of `@effect/sql-pg`.
 */
import { Effect, Layer, Stream } from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient, type SqlConnection, SqlError, Statement } from "effect/sql"
import Sqlite, { type BindValues, type Database } from "node-sqlite3-wasm"

const open = Effect.acquireRelease(
  Effect.sync(() => new Sqlite.Database()),
  (database) => Effect.sync(() => database.close())
)

const connect = (database: Database): SqlConnection.Connection => {
  const all = (sql: string, params: ReadonlyArray<unknown>) =>
    Effect.try({
      try: () => database.all(sql, params as BindValues),
      catch: (cause) => new SqlError.SqlError({ reason: SqlError.classifySqliteError(cause) })
    })
  const values = (sql: string, params: ReadonlyArray<unknown>) =>
    Effect.map(all(sql, params), (rows) => rows.map(Object.values))
  return {
    execute: all,
    executeRaw: all,
    executeUnprepared: all,
    executeValues: values,
    executeValuesUnprepared: values,
    executeStream: (sql, params) => Stream.fromIterableEffect(all(sql, params))
  }
}

export const SqliteLayer = Layer.effect(
  SqlClient.SqlClient,
  Effect.gen(function*() {
    const connection = connect(yield* open)
    return yield* SqlClient.make({
      acquirer: Effect.succeed(connection),
      compiler: Statement.makeCompilerSqlite(),
      driver: "sqlite",
      spanAttributes: [["db.system.name", "sqlite"]]
    })
  })
).pipe(Layer.provide(Reactivity.layer))
