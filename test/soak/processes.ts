/** Processes that all run the same queries, whose callers hang up, and which are frozen, killed, or ended by their own work. */
import { Deferred, Effect, Fiber, Schedule, Scope } from "effect"
import { QueryKey, QueryStateMachine, RedisStore } from "effect-query-state"
import { randomUUID } from "node:crypto"
import { type Outcome, type Task, valueOf } from "../fixtures/workerProtocol.ts"
import type { World } from "../support/chaos/Chaos.ts"
import { aWhile, choose } from "../support/chaos/faults.ts"
import { type Change, unlawful } from "../support/chaos/linearizability.ts"
import { pathsOfRun } from "../support/paths.ts"
import * as WorkerProcess from "../support/WorkerProcess.ts"

export interface Report {
  /** How many outcomes of runs the processes got. */
  readonly runs: number
  readonly faults: Readonly<Record<string, number>>
  readonly violations: ReadonlyArray<string>
}

const size = 3
const queries = 30
const atOnce = 4
const leaseMillis = 1_000

/** The processes there are, for as long as the scope is open in which they were spawned. */
export interface Crew {
  readonly workers: ReadonlyArray<WorkerProcess.Worker>
  /** Kills a process, and puts a new one in its place. */
  readonly replace: (worker: WorkerProcess.Worker) => Effect.Effect<WorkerProcess.Worker>
}

export const spawn = ({ proxy, server }: World): Effect.Effect<Crew, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const spawnOne = Scope.provide(WorkerProcess.spawn(proxy.url, server.url), scope)
    const workers = yield* Effect.replicateEffect(spawnOne, size, { concurrency: "unbounded" })
    const replace = Effect.fnUntraced(function*(worker: WorkerProcess.Worker) {
      yield* worker.kill
      const replacement = yield* spawnOne
      workers[workers.indexOf(worker)] = replacement
      return replacement
    }, Effect.uninterruptible)
    return { workers, replace }
  })

const endsOf = ({ newsOf }: WorkerProcess.Worker, key: QueryKey.QueryKey): ReadonlyArray<Outcome> =>
  newsOf(key).flatMap((news) => news.kind === "ended" ? [news.outcome] : [])

/** Lets a process run a query with work that kills it. Ends when the process has died, or found the query run by another. */
const poison = (worker: WorkerProcess.Worker, task: Task) =>
  Effect.suspend(() => {
    const before = endsOf(worker, task.key).length
    return worker.start([{ ...task, wrong: "kills itself" }]).pipe(
      Effect.andThen(worker.until(() => endsOf(worker, task.key).length > before || undefined)),
      Effect.exit
    )
  })

/** Freezes and kills one process or another, now and then, or gives it work that kills it. */
const disturb = Effect.fnUntraced(function*(
  { replace, workers }: Crew,
  tasks: ReadonlyArray<Task>,
  count: Record<string, number>
): Effect.fn.Return<never> {
  while (true) {
    yield* aWhile(200, 2_000)
    const worker = yield* choose(workers)
    const again = Effect.flatMap(replace(worker), ({ start }) => start(tasks, atOnce))
    const kind = yield* choose(["process frozen", "process killed", "process killed by its work"])
    count[kind] = (count[kind] ?? 0) + 1
    switch (kind) {
      case "process frozen":
        yield* Effect.acquireUseRelease(worker.freeze, () => aWhile(50, 2 * leaseMillis), () => worker.thaw)
        break
      case "process killed":
        yield* Effect.uninterruptible(again)
        break
      default:
        // Whatever has become of it, a new process goes on.
        yield* Effect.uninterruptible(Effect.andThen(poison(worker, yield* choose(tasks)), again))
    }
  }
})

/** Lets a caller hang up whose work is under way, again and again. */
const hangUp = Effect.fnUntraced(function*(
  { workers }: Crew,
  keys: ReadonlyArray<QueryKey.QueryKey>,
  count: Record<string, number>
): Effect.fn.Return<never> {
  while (true) {
    yield* aWhile(20, 400)
    const worker = yield* choose(workers)
    const working = keys.filter((key) => worker.newsOf(key).at(-1)?.kind === "claimed")
    if (working.length === 0) continue
    count["caller hung up"] = (count["caller hung up"] ?? 0) + 1
    yield* worker.hangUp(yield* choose(working))
  }
})

/** Lists the outcomes that processes got and that contradict the changes of the query. */
const untrue = (key: QueryKey.QueryKey, log: ReadonlyArray<Change>, outcomes: ReadonlyArray<Outcome>) => {
  const completed = log.findIndex(({ tag }) => tag === "Completed")
  const value = completed < 0 ? undefined : valueOf(key, log[completed - 1]?.version ?? Number.NaN)
  return [
    ...unlawful(log, pathsOfRun),
    ...(completed >= 0 && completed < log.length - 1 ? ["a query that was Completed was run again"] : []),
    ...outcomes.flatMap((outcome) =>
      outcome._tag === "Succeeded" && outcome.value !== value
        ? [`a process got ${outcome.value}, and the query completed with ${value ?? "nothing"}`]
        : []
    )
  ]
}

/** Lets the processes run fresh queries until `over`, and waits until they have finished. */
export const play = Effect.fnUntraced(
  function*(
    world: World,
    crew: Crew,
    over: Deferred.Deferred<void>
  ): Effect.fn.Return<Report, never, Scope.Scope> {
    const db = QueryKey.DbId.make(randomUUID())
    const logs = yield* world.listen(db)
    const keys = Array.from({ length: queries }, (_, index) => QueryKey.makeUnsafe({ db, query: `${index}` }))
    const tasks = keys.map((key): Task => ({ key, by: "run", leaseMillis, stores: 50 }))
    const faults: Record<string, number> = {}
    for (const { start } of crew.workers) yield* start(tasks, atOnce)
    const disturbing = yield* Effect.forkChild(
      Effect.all([disturb(crew, tasks, faults), hangUp(crew, keys, faults)], { concurrency: "unbounded" })
    )
    yield* Deferred.await(over)
    yield* Fiber.interrupt(disturbing)

    const outcomesOf = (key: QueryKey.QueryKey) =>
      Effect.map(
        Effect.forEach(crew.workers, (worker) => Effect.map(worker.news(key, "ended"), () => endsOf(worker, key))),
        (outcomes) => outcomes.flat()
      )
    // What is broken may not have been put right everywhere yet.
    const store = yield* choose(world.stores)
    const becomesDeterminate = (key: QueryKey.QueryKey) =>
      Effect.flatMap(QueryStateMachine.make(key), (query) => query.waitUntilComplete({ timeout: "10 seconds" })).pipe(
        Effect.retry({ while: ({ _tag }) => _tag === "RedisStoreError", schedule: Schedule.spaced("100 millis") }),
        Effect.isSuccess,
        Effect.provideService(RedisStore.RedisStore, store)
      )
    let runs = 0
    const violations: Array<string> = []
    for (const key of keys) {
      const outcomes = yield* Effect.timeoutOrElse(outcomesOf(key), {
        duration: "60 seconds",
        orElse: () => Effect.as(Effect.sync(() => violations.push(`${key.query}: a run does not end`)), [])
      })
      runs += outcomes.length
      if (!(yield* becomesDeterminate(key))) violations.push(`${key.query}: it stays pending`)
      yield* world.delivered
      violations.push(...untrue(key, logs.get(key.query) ?? [], outcomes).map((what) => `${key.query}: ${what}`))
    }
    return { runs, faults, violations }
  },
  Effect.scoped
)
