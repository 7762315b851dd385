/**
 * FlowMachine and this library on one Redis: either side moves, runs, cancels and waits for the same queries.
 *
 *     REDIS_URL=redis://localhost:6379 npx tsx examples/flowmachine.ts
 *
 * The stand-in of the tests plays FlowMachine: it sends the same commands. The example removes its keys from Redis at the
 * end.
 */
import { Array as Arr, Clock, Config, Console, Effect, Fiber, Redacted, Ref } from "effect"
import { QueryFleet, QueryKey, QueryState, QueryStateMachine, Reason, RedisStoreFlowMachine } from "effect-query-state"
import { styleText } from "node:util"
import * as RedisAdmin from "../test/support/RedisAdmin.ts"
import * as ReferenceMachine from "../test/support/ReferenceMachine.ts"

const sides = { FlowMachine: "yellow", TypeScript: "cyan", "": "gray" } as const
const nameWidth = 14

// Plain text where there is no terminal.
const paint = (style: Parameters<typeof styleText>[0], text: string) =>
  styleText(style, text, { stream: process.stdout })

const makeLog = Effect.map(
  Clock.currentTimeMillis,
  (start) => (name: string, side: keyof typeof sides, what: string) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const seconds = ((now - start) / 1000).toFixed(2).padStart(6)
      const who = paint(sides[side], side.padEnd("FlowMachine".length))
      return Console.log(`${paint("gray", seconds)}  ${paint("bold", name.padEnd(nameWidth))}  ${who}  ${what}`)
    })
)

const example = Effect.gen(function*() {
  const url = yield* Config.Redacted("REDIS_URL")
  const redis = yield* RedisAdmin.connect(Redacted.value(url))
  const log = yield* makeLog
  const db = QueryKey.DbId.make(`example-${process.pid}-${yield* Clock.currentTimeMillis}`)

  /** One query, as each side has it. */
  const share = Effect.fnUntraced(function*(name: string) {
    const key = yield* QueryKey.make({ db, query: name })
    const ours = yield* QueryStateMachine.make(key)
    const theirs = yield* ReferenceMachine.make(redis, key)
    return {
      ours,
      theirs,
      weSay: (what: string) => log(name, "TypeScript", what),
      theySay: (what: string) => log(name, "FlowMachine", what)
    }
  })

  // One side enqueues a query, and the other runs it. Both see the outcome.
  const runHere = Effect.gen(function*() {
    const { ours, theirs, theySay, weSay } = yield* share("daily-totals")
    yield* theirs.trigger("QUEUE")
    yield* theySay("enqueues it, and waits")
    const waiting = yield* Effect.forkChild(theirs.waitUntilComplete(100))
    yield* ours.withExecution(() => Effect.andThen(weSay("runs it, under a lease"), Effect.sleep("300 millis")))
    yield* Fiber.join(waiting)
    yield* theySay(`sees that it is ${yield* theirs.currentState}`)
  })

  const runThere = Effect.gen(function*() {
    const { ours, theirs, theySay, weSay } = yield* share("weekly-totals")
    yield* ours.enqueue
    yield* weSay("enqueues it, and wants its result")
    const result = yield* Effect.forkChild(
      ours.run({ execute: () => Effect.succeed("not used"), result: Effect.succeedSome("1,204 rows") })
    )
    yield* theirs.trigger("EXECUTE")
    yield* theySay("runs it")
    yield* Effect.sleep("300 millis")
    yield* theirs.trigger("FINISH")
    yield* weSay(`fetches ${yield* Fiber.join(result)}`)
  })

  const cancelled = Effect.gen(function*() {
    const { ours, theirs, theySay, weSay } = yield* share("heat-map")
    yield* ours.enqueue
    const work = Effect.onInterrupt(Effect.never, () => weSay("its work is interrupted"))
    const worker = yield* Effect.forkChild(Effect.flip(ours.withExecution(() => work, { lease: "1 second" })))
    yield* Effect.sleep("200 millis")
    yield* theirs.trigger("CANCEL")
    yield* theySay("cancels it while the other side runs it")
    yield* weSay((yield* Fiber.join(worker)).message)
  })

  // A dead worker: without a lease the query would stay Executing.
  const lost = Effect.gen(function*() {
    const { ours, theirs, theySay, weSay } = yield* share("churn-model")
    yield* ours.enqueue
    yield* ours.trigger("Execute", { holder: "worker-0", lease: "500 millis" })
    yield* weSay("claims it as worker-0, which then dies")
    const { state } = yield* ours.waitUntilComplete()
    yield* weSay(`the query ${QueryState.format(state)}`)
    for (const event of ["RESET", "FINISH_RESET", "QUEUE", "EXECUTE", "FINISH"] as const) yield* theirs.trigger(event)
    yield* theySay("resets it, and runs it")
  })

  const halfMade = Effect.gen(function*() {
    yield* Effect.promise(() => redis.setnx(`finist:${db}:stock-levels-state`, "known"))
    const { ours, theirs, theySay, weSay } = yield* share("stock-levels")
    const { changed } = yield* theirs.trigger("QUEUE")
    yield* theySay(`died while it created this; now it accepts no event: ${changed ? "accepted" : "refused"}`)
    yield* ours.enqueue
    yield* weSay("enqueues it, and adds the missing keys")
    yield* theirs.trigger("EXECUTE")
    yield* theirs.trigger("FINISH")
    yield* theySay("runs it")
  })

  // A hundred queries that both sides want to run.
  const raced = Effect.gen(function*() {
    const wins = yield* Ref.make({ ours: 0, theirs: 0 })
    const keys = Array.from({ length: 100 }, (_, index) => QueryKey.makeUnsafe({ db, query: `race-${index}` }))
    const race = Effect.fnUntraced(function*(key: QueryKey.QueryKey, index: number) {
      const ours = yield* QueryStateMachine.make(key)
      const theirs = yield* ReferenceMachine.make(redis, key)
      yield* ours.enqueue
      const count = (side: "ours" | "theirs") => Ref.update(wins, (wins) => ({ ...wins, [side]: wins[side] + 1 }))
      const racers = [
        Effect.flatMap(theirs.trigger("EXECUTE"), ({ changed }) => changed ? count("theirs") : Effect.void),
        Effect.flatMap(ours.execute, ({ changed }) => changed ? count("ours") : Effect.void)
      ]
      yield* Effect.all(index % 2 === 0 ? racers : racers.toReversed(), { concurrency: "unbounded" })
      yield* ours.finish
    })
    yield* Effect.forEach(keys, race, { concurrency: 20 })
    const { ours, theirs } = yield* Ref.get(wins)
    yield* log(
      "race-0 to 99",
      "",
      `TypeScript won ${ours} times, FlowMachine ${theirs} times, ${ours + theirs} in total`
    )
  })

  yield* Console.log(`${paint("bold", "effect-query-state")}, in the Redis of FlowMachine\n`)
  yield* Effect.all([runHere, runThere, cancelled, lost, halfMade, raced], { concurrency: "unbounded" })

  const fleet = yield* QueryFleet.make
  const keys = ["daily-totals", "weekly-totals", "heat-map", "churn-model", "stock-levels"].map((query) =>
    QueryKey.makeUnsafe({ db, query })
  )
  yield* Console.log(`\n${paint("bold", "What both sides read at the end")}\n`)
  for (const { key, state } of Arr.getSuccesses(yield* fleet.readMany(keys))) {
    const raw = yield* Effect.promise(() => redis.get(`finist:${db}:${key.query}-state`))
    const why = "reason" in state ? `  ${Reason.format(state.reason)}` : ""
    yield* Console.log(`${key.query.padEnd(nameWidth)}  ${state._tag.padEnd(9)}  ${paint("gray", `${raw}`)}${why}`)
  }

  const left = yield* Effect.promise(() => redis.keys(`*finist:${db}:*`))
  yield* Effect.promise(() => redis.del(...left))
})

await Effect.runPromise(example.pipe(
  Effect.scoped,
  Effect.provide(RedisStoreFlowMachine.layerConfig({ url: Config.Redacted("REDIS_URL") })),
  Effect.andThen(Console.log("\nNext: read docs/flowmachine.md."))
))
