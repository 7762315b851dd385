/**
 * A dozen queries, and eight workers that each want all results: every query is run once.
 *
 *     npm run demo                                      # in memory
 *     REDIS_URL=redis://localhost:6379 npm run demo     # in Redis
 */
import {
  Cause,
  Clock,
  Config,
  Console,
  Duration,
  Effect,
  Fiber,
  Layer,
  Option,
  Random,
  Ref,
  Result,
  Stream
} from "effect"
import {
  QueryFleet,
  QueryKey,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStoreLive,
  RedisStoreMemory
} from "effect-query-state"
import { styleText } from "node:util"

interface Plan {
  readonly name: string
  readonly millis: number
  readonly story?: "fails" | "is cancelled" | "is reset" | "loses its worker"
}

const plans: ReadonlyArray<Plan> = [
  { name: "daily-totals", millis: 300 },
  { name: "weekly-totals", millis: 450 },
  { name: "top-customers", millis: 250 },
  { name: "stock-levels", millis: 350 },
  { name: "late-orders", millis: 200 },
  { name: "exchange-rates", millis: 150 },
  { name: "footfall", millis: 300 },
  { name: "forecast", millis: 500 },
  { name: "fraud-score", millis: 400, story: "fails" },
  { name: "heat-map", millis: 60_000, story: "is cancelled" },
  { name: "price-index", millis: 250, story: "is reset" },
  { name: "churn-model", millis: 300, story: "loses its worker" }
]
const workers = Array.from({ length: 8 }, (_, index) => `worker-${index + 1}`)

// Short, so that the demo need not wait half a minute until the lease of the lost worker lapses.
const lease = Duration.millis(1500)

/* Output */

const nameWidth = Math.max(...plans.map(({ name }) => name.length))

const colours = {
  Known: "gray",
  Queued: "cyan",
  Executing: "blue",
  Completed: "green",
  Errored: "red",
  Cancelled: "yellow",
  Resetting: "magenta",
  ResetFailed: "red"
} as const satisfies Record<QueryState.Tag, string>

// Plain text where there is no terminal.
const paint = (style: Parameters<typeof styleText>[0], text: string) =>
  styleText(style, text, { stream: process.stdout })

const paintState = (state: QueryState.QueryState) => paint(colours[state._tag], state._tag.padEnd(11))

const detailOf = (state: QueryState.QueryState): string => {
  if ("reason" in state) return Reason.format(state.reason)
  const holder = QueryState.claimOf(state)?.holder
  return holder === undefined ? "" : `by ${holder}`
}

const makeLog = Effect.map(
  Clock.currentTimeMillis,
  (start) => (name: string, what: string, detail: string) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const seconds = ((now - start) / 1000).toFixed(2).padStart(6)
      return Console.log(
        `${paint("gray", seconds)}  ${paint("bold", name.padEnd(nameWidth))}  ${what}  ${detail}`.trimEnd()
      )
    })
)

/* Work */

const makeQuery = Effect.fn(function*(plan: Plan, db: string) {
  const key = yield* QueryKey.make({ db, query: plan.name })
  const machine = yield* QueryStateMachine.make(key)
  const executions = yield* Ref.make(0)

  const work = Effect.gen(function*() {
    yield* Ref.update(executions, (n) => n + 1)
    yield* Effect.sleep(plan.millis)
    return plan.story === "fails"
      ? yield* new Cause.UnknownError(undefined, "division by zero")
      : `rows of ${plan.name}`
  })
  const runAs = (holder: string) =>
    machine.run({
      holder,
      lease,
      execute: () => work,
      result: Effect.succeedSome(`rows of ${plan.name}`),
      // Removes what a dead worker left behind, before the query is run again.
      purge: () => Effect.sleep("150 millis")
    })

  // Before the other workers start, worker-0 claims the query and dies.
  const past = Effect.gen(function*() {
    if (plan.story !== "loses its worker") return
    yield* machine.enqueue
    yield* machine.trigger("Execute", { holder: "worker-0", lease })
  })

  // What else happens to the query.
  const becomes = (tag: QueryState.Tag) =>
    machine.changes.pipe(Stream.filter(({ state }) => state._tag === tag), Stream.runHead)
  const story = Effect.gen(function*() {
    switch (plan.story) {
      case "is cancelled":
        yield* becomes("Executing")
        yield* Effect.sleep("600 millis")
        return yield* machine.trigger("Cancel", {
          reason: Reason.requested({ by: "operator", note: "takes too long" })
        })
      case "is reset":
        yield* becomes("Completed")
        yield* Effect.sleep("300 millis")
        yield* machine.withReset(() => Effect.sleep("200 millis"), { holder: "operator", lease })
        return yield* runAs("operator")
      default:
        return
    }
  })

  return { plan, key, machine, executions, runAs, past, story }
})
type Query = Effect.Success<ReturnType<typeof makeQuery>>

const demo = Effect.scoped(Effect.gen(function*() {
  const fleet = yield* QueryFleet.make
  const log = yield* makeLog
  const db = `demo-${process.pid}-${yield* Clock.currentTimeMillis}`
  const queries = yield* Effect.forEach(plans, (plan) => makeQuery(plan, db))

  // Shows every change, and what a waiter for the first outcome gets.
  const news = ({ machine }: Query) => Stream.filter(machine.changes, ({ version }) => version > 0)
  const show = (query: Query) =>
    Stream.runForEach(news(query), ({ state }) => log(query.plan.name, paintState(state), detailOf(state)))
  const wait = (query: Query) =>
    Stream.runHead(news(query)).pipe(
      Effect.andThen(query.machine.waitUntilComplete()),
      Effect.flatMap(({ state }) =>
        log(query.plan.name, paint("gray", "waiter woke"), `the query ${QueryState.descriptions[state._tag]}`)
      )
    )
  yield* Effect.forEach(queries, (query) => Effect.forkScoped(show(query)))
  const waiters = yield* Effect.forEach(queries, (query) => Effect.forkScoped(wait(query)))
  yield* Effect.forEach(queries, ({ past }) => past)

  const stories = Effect.forEach(queries, ({ story }) => Effect.result(story), { concurrency: "unbounded" })
  const work = (worker: string) =>
    Effect.flatMap(
      Random.shuffle(queries),
      (inItsOrder) => Effect.forEach(inItsOrder, ({ runAs }) => Effect.result(runAs(worker)))
    )
  const [, answers] = yield* Effect.all(
    [stories, Effect.forEach(workers, work, { concurrency: "unbounded" })],
    { concurrency: "unbounded" }
  )
  yield* Fiber.joinAll(waiters)

  yield* Console.log(`\n${paint("bold", "The outcome of each query")}\n`)
  for (const { executions, machine, plan } of queries) {
    const state = yield* machine.currentState
    const times = yield* Ref.get(executions)
    yield* Console.log(
      `${plan.name.padEnd(nameWidth)}  ${paintState(state)}  executed ${times === 1 ? "once " : "twice"}  ${
        paint("gray", plan.story ?? "")
      }`.trimEnd()
    )
  }
  const results = answers.flat()
  const good = results.filter(Result.isSuccess).length
  yield* Console.log(
    `\n${workers.length} workers asked ${results.length} times: ${good} results, ${results.length - good} typed errors.`
  )

  const keys = queries.map(({ key }) => key)
  yield* fleet.triggerMany("Reset", keys)
  yield* fleet.triggerMany("FinishReset", keys)
}))

const StoreLayer = Layer.unwrap(Effect.gen(function*() {
  const url = yield* Config.option(Config.Redacted("REDIS_URL"))
  yield* Console.log(`${paint("bold", "effect-query-state")}, ${Option.isSome(url) ? "in Redis" : "in memory"}\n`)
  return Option.match(url, {
    onNone: () => RedisStoreMemory.layer,
    onSome: (url) => RedisStoreLive.layer({ url })
  })
}))

await Effect.runPromise(demo.pipe(
  Effect.andThen(Console.log(
    process.env["REDIS_URL"] === undefined
      ? "\nNext: run it in a real Redis, REDIS_URL=redis://localhost:6379 npm run demo, and read README.md and examples/."
      : "\nNext: read README.md and examples/."
  )),
  Effect.provide(StoreLayer)
))
