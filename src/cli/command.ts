/** The commands of the inspector. */
import * as Arr from "effect/Array"
import * as Argument from "effect/cli/Argument"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as HistoryEntry from "../domain/HistoryEntry.ts"
import * as QueryKey from "../domain/QueryKey.ts"
import * as QueryRecord from "../domain/QueryRecord.ts"
import * as QueryState from "../domain/QueryState.ts"
import * as Reason from "../domain/Reason.ts"
import * as Transition from "../domain/Transition.ts"
import * as QueryFleet from "../services/QueryFleet.ts"
import { RedisStore } from "../services/RedisStore.ts"
import * as Bulk from "./bulk.ts"
import * as Connection from "./connection.ts"
import * as Exit from "./exit.ts"
import * as View from "./view.ts"
import * as Watch from "./watch.ts"

/** The version of the package; a test keeps the two the same. */
export const version = "0.1.0"

/* Arguments and flags */

const db = Argument.String("db").pipe(
  Argument.withSchema(QueryKey.DbId),
  Argument.withDescription("Database that the queries belong to, as the program names it")
)
const query = Argument.String("query").pipe(
  Argument.withSchema(QueryKey.QueryId),
  Argument.withDescription("Id of the query")
)
const queries = Argument.String("query").pipe(
  Argument.withSchema(QueryKey.QueryId),
  Argument.variadic(),
  Argument.withDescription("Ids of the queries")
)
const state = Flag.Literals("state", QueryState.tags).pipe(
  Flag.atLeast(0),
  Flag.withDescription("Only queries in this state; can be given several times")
)
const json = Connection.toggle("json", "Print JSON, one object a line")
const dryRun = Connection.toggle("dry-run", "Print what would happen, and change nothing")

const encodeRecord = Schema.encodeEffect(Schema.fromJsonString(Schema.toCodecJson(QueryRecord.QueryRecord)))
const encodeEntry = Schema.encodeEffect(Schema.fromJsonString(Schema.toCodecJson(HistoryEntry.HistoryEntry)))
const toJson = (record: QueryRecord.QueryRecord) => Effect.map(Effect.orDie(encodeRecord(record)), View.json)
const entryToJson = (entry: HistoryEntry.HistoryEntry) => Effect.map(Effect.orDie(encodeEntry(entry)), View.json)
const toLine = (isJson: boolean) => (record: QueryRecord.QueryRecord) =>
  isJson ? toJson(record) : Effect.succeed(View.line(record))

/** Describes a command: the list of commands shows the first line, and the command's own help shows all of them. */
const described = (line: string, ...more: ReadonlyArray<string>) =>
<Name extends string, Input, Context, E, R>(
  command: Command.Command<Name, Input, Context, E, R>
): Command.Command<Name, Input, Context, E, R> =>
  command.pipe(Command.withShortDescription(line), Command.withDescription([line, ...more].join("\n  ")))

/* Reading */

const databases = Command.make(
  "databases",
  { json, ...Connection.flags },
  Effect.fnUntraced(function*({ json }) {
    const fleet = yield* QueryFleet.make
    let isEmpty = true
    yield* fleet.databases.pipe(
      Stream.tap(() => Effect.sync(() => (isEmpty = false))),
      Stream.runForEach((db) => Console.log(json ? View.json(JSON.stringify({ db })) : View.printable(db)))
    )
    if (isEmpty) {
      yield* Console.error("No database has a record. Check --prefix and the number of the Redis database")
    }
  })
).pipe(
  Command.provide((input) => Connection.layer(input)),
  described("List the databases that have a query, one a line.", "The order is arbitrary.")
)

const list = Command.make(
  "list",
  { db, state, json, ...Connection.flags },
  Effect.fnUntraced(function*({ db, json, state }) {
    const fleet = yield* QueryFleet.make
    let isEmpty = true
    yield* fleet.list(db).pipe(
      Stream.tap(() => Effect.sync(() => (isEmpty = false))),
      Stream.filter((record) => state.length === 0 || state.includes(record.state._tag)),
      Stream.mapEffect(toLine(json)),
      Stream.runForEach((line) => Console.log(line))
    )
    if (isEmpty) {
      yield* Console.error(
        `The database ${View.printable(db)} has no readable record. `
          + "Check its name, which \"databases\" lists, --prefix and the number of the Redis database"
      )
    }
  })
).pipe(
  Command.provide((input) => Connection.layer(input)),
  described(
    "List the queries of a database, one a line.",
    "The order is arbitrary. Records that cannot be read are reported on standard error."
  ),
  Command.withExamples([{ command: "effect-query-state list warehouse --state Errored --state ResetFailed" }])
)

const show = Command.make(
  "show",
  {
    db,
    query,
    json,
    exitStatus: Connection.toggle(
      "exit-status",
      "Exit with 0 only if the query is Completed; 3: pending; 4: Errored, Cancelled or ResetFailed; 5: Known"
    ),
    ...Connection.flags
  },
  Effect.fnUntraced(function*({ db, exitStatus, json, query }) {
    const store = yield* RedisStore
    const record = yield* store.read({ db, query })
    if (record.version === 0) {
      yield* Console.error(`Query ${QueryKey.format(record.key)} has no record: it never ran, or was reset`)
    }
    const lines = json ? [yield* toJson(record)] : View.details(record, yield* store.currentTime)
    yield* Console.log(lines.join("\n"))
    const code = exitStatus ? Exit.codeOf(record.state) : 0
    if (code !== 0) return yield* new Exit.Ended({ code })
  })
).pipe(
  Command.provide((input) => Connection.layer(input)),
  described(
    "Show one query: its state, since when, its holder, or why it failed.",
    "A query without a record is Known."
  )
)

const history = Command.make(
  "history",
  { db, query, json, ...Connection.flags },
  Effect.fnUntraced(function*({ db, json, query }) {
    const store = yield* RedisStore
    const entries = yield* store.history({ db, query })
    for (const entry of entries) {
      yield* Console.log(json ? yield* entryToJson(entry) : View.historyLine(entry))
    }
    if (entries.length === 0) {
      yield* Console.error("There is no history: only processes whose store has it switched on record one")
    }
  })
).pipe(
  Command.provide((input) => Connection.layer(input)),
  described("Show the history of one query, oldest first.")
)

const watch = Command.make(
  "watch",
  {
    db,
    json,
    interval: Flag.Finite("interval").pipe(
      Flag.filter((seconds) => seconds >= 0.1, (seconds) => `Expected at least 0.1 seconds, got ${seconds}`),
      Flag.withDefault(1),
      Flag.withDescription("Seconds between two refreshes; default: 1")
    ),
    ...Connection.flags
  },
  Effect.fnUntraced(function*({ db, interval, json }) {
    const { canAnimate } = yield* TerminalCapabilities.TerminalCapabilities
    yield* Watch.watch({ db, interval: Duration.seconds(interval), line: toLine(json), isDrawn: canAnimate && !json })
  })
).pipe(
  Command.provide((input) => Connection.layer(input)),
  described(
    "Watch the queries of a database until q or Ctrl-C.",
    "Without a terminal, or with --json, it prints the pending queries, then each query that has changed."
  )
)

/* Bulk operations */

const bulkFlags = { db, queries, state, dryRun, ...Connection.flags }

interface Selection {
  readonly db: QueryKey.DbId
  readonly queries: ReadonlyArray<QueryKey.QueryId>
  readonly state: ReadonlyArray<QueryState.Tag>
}

const checkSelection = ({ queries, state }: Selection) =>
  (queries.length === 0) === (state.length === 0)
    ? Effect.fail(new CliError.ValidationError({ message: "Give either ids of queries or --state" }))
    : Effect.void

/** The named queries, or the queries in the given states; the latter are left alone if they move on meanwhile. */
const targetsOf = Effect.fnUntraced(function*({ db, queries, state }: Selection) {
  if (state.length === 0) {
    return Array.from(new Set(queries), (query): Bulk.Target => ({ key: { db, query } }))
  }
  const fleet = yield* QueryFleet.make
  const records = yield* Stream.runCollect(fleet.list(db, { states: state }))
  // A list may hold a query twice.
  const byId = new Map(records.map(({ key, version }) => [key.query, { key, fence: version }]))
  return Array.from(byId.values())
})

const cancel = Command.make(
  "cancel",
  {
    ...bulkFlags,
    by: Flag.String("by").pipe(Flag.optional, Flag.withDescription("Who asks for it; recorded with the reason")),
    note: Flag.String("note").pipe(Flag.optional, Flag.withDescription("Why; recorded with the reason"))
  },
  Effect.fnUntraced(function*({ by, dryRun, note, ...selection }) {
    const reason = Reason.requested({ by: Option.getOrUndefined(by), note: Option.getOrUndefined(note) })
    yield* Bulk.run(Bulk.cancel(reason), yield* targetsOf(selection), dryRun)
  })
).pipe(
  Command.validate((input) => checkSelection(input)),
  Command.provide((input) => Connection.layer(input)),
  described(
    "Cancel queries that are Queued or Executing.",
    "The holder of a cancelled query is interrupted. Exit code 2: a query was in no state to be cancelled."
  ),
  Command.withExamples([
    { command: "effect-query-state cancel warehouse heat-map --by ada --note 'takes too long'" },
    { command: "effect-query-state cancel warehouse --state Queued --dry-run" }
  ])
)

const reset = Command.make(
  "reset",
  bulkFlags,
  ({ dryRun, ...selection }) => Effect.flatMap(targetsOf(selection), (targets) => Bulk.run(Bulk.reset, targets, dryRun))
).pipe(
  Command.validate((input) => checkSelection(input)),
  Command.provide((input) => Connection.layer(input)),
  described(
    "Reset queries that are Completed, Errored, Cancelled or ResetFailed.",
    "They become Known, and can run again. Only the state is reset: results stored elsewhere are NOT purged.",
    "Exit code 2: a query was in no state to be reset."
  ),
  Command.withExamples([{ command: "effect-query-state reset warehouse --state Errored --dry-run" }])
)

/* The program */

const diagram = Command.make("diagram", {}, () => Console.log(Transition.toMermaid())).pipe(
  described("Print the lifecycle of a query as a Mermaid diagram.")
)

const inspector = Command.make("effect-query-state").pipe(
  Command.withSubcommands([databases, list, show, history, watch, cancel, reset, diagram]),
  described(
    "Inspect, cancel and reset the queries that processes share in Redis.",
    "Exit codes: 0 done; 1 failed, or invalid arguments; 2 a query was in no state for the operation; 130 interrupted."
  )
)

/** Removes passwords: an argument in the wrong place may be a URL that holds one. */
const withoutCredentials = (text: string): string => text.replace(/\/\/\S*@/g, "//<redacted>@")

/** A URL that is missing can be in the environment, too. Arguments may hold any characters. */
const explain = (error: CliError.CliError): string =>
  error._tag === "MissingOption" && error.option === "url"
    ? "No Redis is named. Set REDIS_URL, as in REDIS_URL=redis://localhost:6379, or give --url"
    : error.message.split("\n").map((line) => View.printable(line)).join("\n")

// Invalid arguments print a line or two on standard error, and no help: a program that reads the output expects records.
const presenter = CliOutput.layerPresenter({
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Console.error(withoutCredentials(
        [...event.errors.map(explain), `See ${event.commandPath.join(" ")} --help`].join("\n")
      ))
      : CliOutput.defaultPresenter.present(event)
})

// Prints the warnings of `list` about records that cannot be read, without timestamps and levels.
const logger = Logger.withConsoleError(
  Logger.make(({ message }) =>
    Arr.ensure(message).map((part) => View.printable(part instanceof Error ? part.message : String(part))).join(": ")
  )
)

/** The inspector, with the arguments of this process. */
export const program = Command.run(inspector, { version }).pipe(
  Effect.catchTag(
    "RedisStoreError",
    (error) => Effect.andThen(Console.error(View.printable(error.message)), Effect.fail(Exit.failed))
  ),
  Effect.provide([
    CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions] }),
    presenter,
    Logger.layer([logger]),
    TerminalCapabilities.layer
  ])
)
