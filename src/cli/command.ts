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
import * as Connection from "./connection.ts"
import * as Exit from "./exit.ts"
import * as Steering from "./steering.ts"
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
const dryRun = Connection.toggle("dry-run", "Say what would happen, and change nothing")

const encodeRecord = Schema.encodeEffect(Schema.fromJsonString(Schema.toCodecJson(QueryRecord.QueryRecord)))
const encodeEntry = Schema.encodeEffect(Schema.fromJsonString(Schema.toCodecJson(HistoryEntry.HistoryEntry)))
const toJson = (record: QueryRecord.QueryRecord) => Effect.orDie(encodeRecord(record))
const entryToJson = (entry: HistoryEntry.HistoryEntry) => Effect.orDie(encodeEntry(entry))
const toLine = (isJson: boolean) => (record: QueryRecord.QueryRecord) =>
  isJson ? toJson(record) : Effect.succeed(View.line(record))

/** Says what a command does: in the list of commands by the first line, and in its own help by all of them. */
const described = (line: string, ...more: ReadonlyArray<string>) =>
<Name extends string, Input, Context, E, R>(
  command: Command.Command<Name, Input, Context, E, R>
): Command.Command<Name, Input, Context, E, R> =>
  command.pipe(Command.withShortDescription(line), Command.withDescription([line, ...more].join("\n  ")))

/* Looking */

const list = Command.make(
  "list",
  { db, state, json, ...Connection.flags },
  Effect.fnUntraced(function*({ db, json, state }) {
    const fleet = yield* QueryFleet.make
    yield* fleet.list(db, { states: state.length === 0 ? undefined : state }).pipe(
      Stream.mapEffect(toLine(json)),
      Stream.runForEach((line) => Console.log(line))
    )
  })
).pipe(
  Command.provide((input) => Connection.layer(input)),
  described(
    "List the queries of a database, one a line.",
    "They come in no order. Those that cannot be read are told on standard error."
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
    const lines = json ? [yield* toJson(record)] : View.details(record, yield* store.currentTime)
    yield* Console.log(lines.join("\n"))
    const code = exitStatus ? Exit.codeOf(record.state) : 0
    if (code !== 0) return yield* new Exit.Ended({ code })
  })
).pipe(
  Command.provide((input) => Connection.layer(input)),
  described(
    "Show one query: its state, since when, who holds it, or why it failed.",
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
      yield* Console.error("There is no history: it is kept by processes that have it switched on in their store")
    }
  })
).pipe(
  Command.provide((input) => Connection.layer(input)),
  described("Show what happened to one query, oldest first.")
)

const watch = Command.make(
  "watch",
  {
    db,
    json,
    interval: Flag.Finite("interval").pipe(
      Flag.filter((seconds) => seconds >= 0.1, (seconds) => `Expected at least 0.1 seconds, got ${seconds}`),
      Flag.withDefault(1),
      Flag.withDescription("Seconds from one look to the next; default: 1")
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
    "Without a terminal, or with --json, the pending queries are printed, and from then on each query that has changed."
  )
)

/* Steering */

const steered = { db, queries, state, dryRun, ...Connection.flags }

interface Which {
  readonly db: QueryKey.DbId
  readonly queries: ReadonlyArray<QueryKey.QueryId>
  readonly state: ReadonlyArray<QueryState.Tag>
}

const checkWhich = ({ queries, state }: Which) =>
  (queries.length === 0) === (state.length === 0)
    ? Effect.fail(new CliError.ValidationError({ message: "Give ids of queries, or else --state" }))
    : Effect.void

/** The queries that are named, or those that are in one of the states, and are left alone should they move on. */
const targetsOf = Effect.fnUntraced(function*({ db, queries, state }: Which) {
  if (state.length === 0) {
    return Array.from(new Set(queries), (query): Steering.Target => ({ key: { db, query } }))
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
    ...steered,
    by: Flag.String("by").pipe(Flag.optional, Flag.withDescription("Who asks for it, for the record")),
    note: Flag.String("note").pipe(Flag.optional, Flag.withDescription("Why, for the record"))
  },
  Effect.fnUntraced(function*({ by, dryRun, note, ...which }) {
    const reason = Reason.requested({ by: Option.getOrUndefined(by), note: Option.getOrUndefined(note) })
    yield* Steering.steer(Steering.cancel(reason), yield* targetsOf(which), dryRun)
  })
).pipe(
  Command.validate((input) => checkWhich(input)),
  Command.provide((input) => Connection.layer(input)),
  described(
    "Cancel queries that are Queued or Executing.",
    "Whoever runs one is told to stop. Exit code 2: one of them was not in a state for it."
  ),
  Command.withExamples([
    { command: "effect-query-state cancel warehouse heat-map --by ada --note 'takes too long'" },
    { command: "effect-query-state cancel warehouse --state Queued --dry-run" }
  ])
)

const reset = Command.make(
  "reset",
  steered,
  ({ dryRun, ...which }) =>
    Effect.flatMap(targetsOf(which), (targets) => Steering.steer(Steering.reset, targets, dryRun))
).pipe(
  Command.validate((input) => checkWhich(input)),
  Command.provide((input) => Connection.layer(input)),
  described(
    "Reset queries that are Completed, Errored, Cancelled or ResetFailed.",
    "They are Known again, and can be run. Only their state is reset: what they have stored elsewhere is NOT purged.",
    "Exit code 2: one of them was not in a state for it."
  ),
  Command.withExamples([{ command: "effect-query-state reset warehouse --state Errored --dry-run" }])
)

/* The whole */

const diagram = Command.make("diagram", {}, () => Console.log(Transition.toMermaid())).pipe(
  described("Print the lifecycle of a query as a Mermaid diagram.")
)

const inspector = Command.make("effect-query-state").pipe(
  Command.withSubcommands([list, show, history, watch, cancel, reset, diagram]),
  described(
    "Look at the queries that processes share in Redis, cancel them, and reset them.",
    "Exit codes: 0 done; 1 failed, or wrongly called; 2 a query was not in a state for it; 130 interrupted."
  )
)

/** What was typed may hold a URL with a password, in the wrong place. */
const withoutCredentials = (text: string): string => text.replace(/\/\/\S*@/g, "//<redacted>@")

// What is wrong is told in a line or two, and on standard error: what reads the output is not to take help for records.
const presenter = CliOutput.layerPresenter({
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Console.error(withoutCredentials(
        [...event.errors.map(({ message }) => message), `See ${event.commandPath.join(" ")} --help`].join("\n")
      ))
      : CliOutput.defaultPresenter.present(event)
})

// What a list leaves out it warns of, for people to read.
const logger = Logger.withConsoleError(
  Logger.make(({ message }) =>
    Arr.ensure(message).map((part) => View.printable(part instanceof Error ? part.message : String(part))).join(": ")
  )
)

/** The inspector, with the arguments that this process was given. */
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
