/** The live view of a database: reads it at an interval, and draws a screen, or prints what has changed. */
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Console from "effect/Console"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"
import type { DbId } from "../domain/QueryKey.ts"
import type { QueryRecord } from "../domain/QueryRecord.ts"
import * as QueryState from "../domain/QueryState.ts"
import * as QueryFleet from "../services/QueryFleet.ts"
import { RedisStore } from "../services/RedisStore.ts"
import type { RedisStoreError } from "../services/RedisStoreError.ts"
import * as View from "./view.ts"

/* On a terminal */

const enterScreen = "\u001b[?1049h\u001b[?25l"
const leaveScreen = "\u001b[?25h\u001b[?1049l"

/** Overwrites the screen line by line, and erases each line first, so that it does not flicker. */
const redraw = (lines: ReadonlyArray<string>): string =>
  `\u001b[H${lines.map((line) => `\u001b[K${line}`).join("\r\n")}\u001b[0J`

const takeSnapshot = Effect.fnUntraced(function*(db: DbId) {
  const store = yield* RedisStore
  const fleet = yield* QueryFleet.make
  const counts = Object.fromEntries([...QueryState.tags, "Unreadable"].map((state) => [state, 0])) as Record<
    QueryState.Tag | "Unreadable",
    number
  >
  const pending: Array<QueryRecord> = []
  const seen = new Set<string>()
  // `list` warns of records that it cannot read: the screen counts them instead.
  const countWarning = Logger.make(() => {
    counts.Unreadable += 1
  })
  yield* fleet.list(db).pipe(
    Stream.runForEach((record) =>
      Effect.sync(() => {
        // A list may hold a query twice.
        if (seen.has(record.key.query)) return
        seen.add(record.key.query)
        counts[record.state._tag] += 1
        if (QueryState.isPending(record.state)) pending.push(record)
      })
    ),
    Effect.provideService(Logger.CurrentLoggers, new Set([countWarning]))
  )
  return { now: yield* store.currentTime, counts, pending }
})

const isQuit = ({ key }: Terminal.UserInput): boolean => key.name === "q" || key.name === "escape"
const isInterrupt = ({ key }: Terminal.UserInput): boolean => key.ctrl && key.name === "c"

/** Waits for a key that ends the view. In raw mode, Ctrl-C is a key and not a signal. */
const quit = Effect.gen(function*() {
  const terminal = yield* Terminal.Terminal
  const keys = yield* terminal.readInput
  while (true) {
    const key = yield* Queue.take(keys)
    if (isQuit(key)) return
    if (isInterrupt(key)) return yield* Effect.interrupt
  }
}).pipe(Effect.catch(() => Effect.never), Effect.scoped)

const draw = Effect.fnUntraced(function*(db: DbId, interval: Duration.Input) {
  const terminal = yield* Terminal.Terminal
  const { canColor: isColoured } = yield* TerminalCapabilities.TerminalCapabilities
  let shown: View.Shown = { db, snapshot: undefined, trouble: undefined }
  const snapshots = Stream.fromEffectSchedule(
    takeSnapshot(db).pipe(
      Effect.map((snapshot): View.Shown => ({ db, snapshot, trouble: undefined })),
      Effect.catch((error) => Effect.succeed({ ...shown, trouble: error.reason.message })),
      Effect.tap((seen) => Effect.sync(() => (shown = seen)))
    ),
    Schedule.spaced(interval)
  )
  yield* Effect.acquireRelease(
    Effect.orDie(terminal.display(enterScreen)),
    () => Effect.orDie(terminal.display(leaveScreen))
  )
  const sizes = Stream.fromQueue(yield* terminal.size)
  yield* Stream.zipLatest(Stream.concat(Stream.make(shown), snapshots), sizes).pipe(
    Stream.runForEach(([shown, size]) => terminal.display(redraw(View.frame(shown, size, { isColoured })))),
    Effect.raceFirst(quit)
  )
}, Effect.scoped)

/* Without a terminal */

/**
 * Runs `onChanged` for each record whose version is not in `versions`, and answers the versions of all records. Versions of
 * queries that are gone are forgotten, so that memory is bounded by the size of the database.
 */
export const changedSince = Effect.fnUntraced(function*<E, R>(
  versions: ReadonlyMap<string, number>,
  records: Stream.Stream<QueryRecord, E>,
  onChanged: (record: QueryRecord) => Effect.Effect<void, never, R>
) {
  const seen = new Map<string, number>()
  yield* Stream.runForEach(records, (record) => {
    const { key: { query }, version } = record
    // A list may hold a query twice.
    const isChanged = (seen.get(query) ?? versions.get(query)) !== version
    seen.set(query, version)
    return isChanged ? onChanged(record) : Effect.void
  })
  return seen
})

/** Prints the pending queries, then each query that has changed; an error is printed once, until a read succeeds. */
const print = Effect.fnUntraced(function*(
  db: DbId,
  interval: Duration.Input,
  line: (record: QueryRecord) => Effect.Effect<string>
) {
  const fleet = yield* QueryFleet.make
  let versions: ReadonlyMap<string, number> | undefined
  let trouble: string | undefined
  const printTrouble = ({ message }: RedisStoreError) => {
    if (message === trouble) return Effect.void
    trouble = message
    return Console.error(View.printable(message))
  }
  yield* Effect.suspend(() =>
    changedSince(
      versions ?? new Map(),
      fleet.list(db),
      (record) =>
        versions !== undefined || QueryState.isPending(record.state)
          ? Effect.flatMap(line(record), Console.log)
          : Effect.void
    )
  ).pipe(
    Effect.tap((seen) =>
      Effect.sync(() => {
        versions = seen
        trouble = undefined
      })
    ),
    Effect.catch(printTrouble),
    // The warnings about records that cannot be read would repeat at every interval.
    Effect.provideService(Logger.CurrentLoggers, new Set()),
    Effect.repeat(Schedule.spaced(interval))
  )
})

/** Shows a database until it is interrupted: as a screen on a terminal, else as lines. */
export const watch = Effect.fnUntraced(function*(options: {
  readonly db: DbId
  readonly interval: Duration.Input
  readonly line: (record: QueryRecord) => Effect.Effect<string>
  readonly isDrawn: boolean
}) {
  const { db, interval, isDrawn, line } = options
  yield* isDrawn ? draw(db, interval) : print(db, interval, line)
})
