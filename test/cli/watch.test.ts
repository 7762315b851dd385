import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Option, Queue, Schedule, Stream, Terminal } from "effect"
import { QueryKey, QueryState, RedisStoreError, RedisStoreFaults, RedisStoreMemory } from "effect-query-state"
import { TerminalCapabilities } from "effect/cli"
import { changedSince, watch } from "../../src/cli/watch.ts"
import { driveTo } from "../support/queries.ts"

const db = QueryKey.DbId.make("warehouse")

/** A terminal that records what is drawn; a test sets its keys and sizes. */
const makeTerminal = Effect.gen(function*() {
  let screen = ""
  const keys = yield* Queue.unbounded<Terminal.UserInput>()
  const sizes = yield* Queue.unbounded<Terminal.Size>()
  const resize = (columns: number, rows: number) => Queue.offer(sizes, { columns, rows })
  yield* resize(60, 12)
  const terminal = Terminal.make({
    columns: Effect.succeed(60),
    rows: Effect.succeed(12),
    size: Effect.succeed(sizes),
    readInput: Effect.succeed(keys),
    readLine: Effect.never,
    display: (text) =>
      Effect.sync(() => {
        screen += text
      })
  })
  // What stands since it was drawn over the last time.
  const lines = Effect.sync(() => screen.slice(screen.lastIndexOf("\u001b[H")).split("\r\n"))
  const press = (name: string, ctrl = false) =>
    Queue.offer(keys, { input: Option.some(name), key: { name, ctrl, meta: false, shift: false } })
  const shows = (text: string) =>
    Effect.repeat(lines, {
      schedule: Schedule.spaced("5 millis"),
      until: (lines) => lines.some((line) => line.includes(text))
    })
  return { terminal, press, resize, shows, drawn: Effect.sync(() => screen) }
})

const start = Effect.fnUntraced(function*(terminal: Terminal.Terminal) {
  return yield* watch({ db, interval: "10 millis", line: () => Effect.die("drawn"), isDrawn: true }).pipe(
    Effect.provideService(Terminal.Terminal, terminal),
    Effect.provideService(TerminalCapabilities.TerminalCapabilities, {
      canAnimate: true,
      canColor: false,
      canPrompt: false
    }),
    Effect.forkScoped
  )
})

const Stores = RedisStoreFaults.layer(RedisStoreMemory.layer)
const unreachable = { _tag: "Fail", reason: new RedisStoreError.ConnectionLost({}) } as const
const unknown = { _tag: "Fail", reason: new RedisStoreError.UnknownState({ raw: "odd" }) } as const

it.live("pending queries are drawn in place until q is pressed", () =>
  Effect.gen(function*() {
    const { drawn, press, shows, terminal } = yield* makeTerminal
    const fiber = yield* start(terminal)
    yield* shows("No query is pending")
    yield* driveTo(QueryKey.makeUnsafe({ db, query: "stock" }), "Executing", { holder: "worker-3", lease: "1 minute" })
    yield* shows("worker-3")
    yield* press("q")
    yield* Fiber.join(fiber)
    const text = yield* drawn
    assert.isTrue(text.startsWith("\u001b[?1049h\u001b[?25l"))
    assert.isTrue(text.endsWith("\u001b[?25h\u001b[?1049l"))
  }).pipe(Effect.provide(Stores), Effect.scoped))

it.live("Ctrl-C interrupts it and restores the terminal", () =>
  Effect.gen(function*() {
    const { drawn, press, shows, terminal } = yield* makeTerminal
    const fiber = yield* start(terminal)
    yield* shows("No query is pending")
    yield* press("c", true)
    const exit = yield* Fiber.await(fiber)
    assert.isTrue(exit._tag === "Failure" && exit.cause.reasons.every(({ _tag }) => _tag === "Interrupt"))
    assert.isTrue((yield* drawn).endsWith("\u001b[?25h\u001b[?1049l"))
  }).pipe(Effect.provide(Stores), Effect.scoped))

it.live("it is redrawn when the terminal changes its size", () =>
  Effect.gen(function*() {
    const { resize, shows, terminal } = yield* makeTerminal
    yield* start(terminal)
    yield* shows("at ")
    yield* resize(12, 3)
    yield* shows("warehouse: …")
  }).pipe(Effect.provide(Stores), Effect.scoped))

it.live("an outage is shown beside the last known queries, and disappears when it ends", () =>
  Effect.gen(function*() {
    const { shows, terminal } = yield* makeTerminal
    const faults = yield* RedisStoreFaults.RedisStoreFaults
    yield* driveTo(QueryKey.makeUnsafe({ db, query: "stock" }), "Queued")
    yield* start(terminal)
    yield* shows("stock")
    yield* faults.inject(() => unreachable)
    const lines = yield* shows("no connection to Redis")
    assert.isTrue(lines.some((line) => line.includes("stock")))
    yield* faults.heal
    yield* Effect.repeat(shows("stock"), {
      schedule: Schedule.spaced("5 millis"),
      until: (lines) => lines.every((line) => !line.includes("no connection"))
    })
  }).pipe(Effect.provide(Stores), Effect.scoped))

it.live("only queries that are still there are remembered, and a query that comes back is printed anew", () =>
  Effect.gen(function*() {
    const versions = new Map([["gone", 3], ["same", 4], ["moved", 5]])
    const printed: Array<string> = []
    const key = (query: string) => QueryKey.makeUnsafe({ db, query })
    const records = [
      { key: key("same"), state: QueryState.completed, version: 4, attempts: 0 },
      { key: key("moved"), state: QueryState.completed, version: 6, attempts: 0 },
      { key: key("moved"), state: QueryState.completed, version: 6, attempts: 0 }
    ]
    const next = yield* changedSince(versions, Stream.fromArray(records), ({ key }) =>
      Effect.sync(() => {
        printed.push(key.query)
      }))
    assert.deepStrictEqual(printed, ["moved"])
    assert.deepStrictEqual(next, new Map([["same", 4], ["moved", 6]]))
  }))

it.live("queries that cannot be read are counted", () =>
  Effect.gen(function*() {
    const { shows, terminal } = yield* makeTerminal
    const faults = yield* RedisStoreFaults.RedisStoreFaults
    yield* driveTo(QueryKey.makeUnsafe({ db, query: "stock" }), "Queued")
    yield* faults.inject(() => unknown)
    yield* start(terminal)
    yield* shows("? Unreadable 1")
  }).pipe(Effect.provide(Stores), Effect.scoped))
