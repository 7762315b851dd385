/** What becomes of a run whose caller hangs up, or whose process stops, dies or freezes, while others wait for it. */
import { assert, it } from "@effect/vitest"
import { Array as Arr, Effect, Exit, Redacted } from "effect"
import { type QueryKey, QueryState, QueryStateMachine, RedisStoreLive } from "effect-query-state"
import { inject } from "vitest"
import { type News, type Outcome, type Task, valueOf } from "../../fixtures/workerProtocol.ts"
import { freshKey } from "../../support/queries.ts"
import * as RawRecord from "../../support/RawRecord.ts"
import * as RedisAdmin from "../../support/RedisAdmin.ts"
import * as WorkerProcess from "../../support/WorkerProcess.ts"

type Worker = WorkerProcess.Worker

const StoreLayer = RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")) })

const spawnMany = (count: number) =>
  Effect.all(Arr.makeBy(count, () => WorkerProcess.spawn(inject("redisUrl"))), { concurrency: "unbounded" })

// No lease lapses within a test, so only a hand-over lets others go on.
const tenMinutes = 600_000

const isEnd = (news: News) => news.kind === "ended"

/** Waits until so many reports of a kind on a query have come. */
const untilCount = ({ newsOf, until }: Worker, key: QueryKey.QueryKey, kind: News["kind"], count: number) =>
  until(() => newsOf(key).filter((news) => news.kind === kind).length >= count || undefined)

/** What all callers of a query in one process were answered. */
const outcomesOf = (worker: Worker, key: QueryKey.QueryKey, callers: number) =>
  Effect.map(
    untilCount(worker, key, "ended", callers),
    () => worker.newsOf(key).flatMap((news) => news.kind === "ended" ? [news.outcome] : [])
  )

const succeeded = (key: QueryKey.QueryKey, fence: number): Outcome => ({
  _tag: "Succeeded",
  value: valueOf(key, fence)
})

const fencesIn = (workers: ReadonlyArray<Worker>, key: QueryKey.QueryKey): ReadonlyArray<number> =>
  workers.flatMap(({ newsOf }) => newsOf(key).flatMap((news) => news.kind === "claimed" ? [news.fence] : []))

/** Waits until a query is claimed anew, and finds the process that did it. */
const claimant = Effect.fnUntraced(function*(
  query: QueryStateMachine.QueryStateMachine,
  workers: ReadonlyArray<Worker>,
  after: number
) {
  const { state, version } = yield* Effect.repeat(Effect.delay(query.record, "10 millis"), {
    until: ({ state, version }) => version > after && state._tag === "Executing"
  })
  const { holder } = QueryState.claimOf(state) ?? assert.fail("it is claimed")
  const worker = workers.find((worker) => worker.holder === holder) ?? assert.fail(`${holder} is none of the workers`)
  yield* worker.until(() => fencesIn([worker], query.key).includes(version) || undefined)
  return { worker, fence: version }
})

interface Zombie {
  /** Where its process begins to stand still. */
  readonly at: "in work" | "before Finish"
  readonly meanwhile: "is run by another" | "was run by another" | "was handed over by another" | "was left alone"
}

const meanwhiles: ReadonlyArray<Zombie["meanwhile"]> = [
  "is run by another",
  "was run by another",
  "was handed over by another",
  "was left alone"
]

const zombies: ReadonlyArray<Zombie> = meanwhiles.flatMap((meanwhile): ReadonlyArray<Zombie> => [
  { at: "in work", meanwhile },
  { at: "before Finish", meanwhile }
])

it.layer(StoreLayer, { excludeTestServices: true })("A run", (it) => {
  it.effect("whose caller hangs up is taken over by one of those who wait, here or elsewhere, and none of them fails", () =>
    Effect.gen(function*() {
      const workers = yield* spawnMany(2)
      const key = yield* freshKey
      const query = yield* QueryStateMachine.make(key)
      const task: Task = {
        key,
        by: "run",
        leaseMillis: tenMinutes,
        stores: 0,
        pausesAt: ["in work"],
        tellsWaits: true
      }
      yield* Effect.forEach(
        workers,
        (worker) => Effect.andThen(worker.start([task, task, task]), untilCount(worker, key, "subscribed", 3))
      )

      // More often than work may be tried: an interrupted run is no attempt.
      let fence = 0
      for (let hangUps = 0; hangUps < 4; hangUps++) {
        const claimed = yield* claimant(query, workers, fence)
        fence = claimed.fence
        yield* claimed.worker.hangUp(key)
        yield* untilCount(claimed.worker, key, "ended", claimed.worker.newsOf(key).filter(isEnd).length + 1)
      }
      fence = (yield* claimant(query, workers, fence)).fence
      yield* Effect.forEach(workers, ({ release }) => release(key))
      const outcomes = (yield* Effect.forEach(workers, (worker) => outcomesOf(worker, key, 3))).flat()
      assert.deepStrictEqual(
        outcomes.filter(({ _tag }) => _tag === "Succeeded"),
        [succeeded(key, fence), succeeded(key, fence)]
      )
      assert.strictEqual(outcomes.length, 6)
      assert.strictEqual((yield* query.currentState)._tag, "Completed")
    }))

  it.effect(
    "of a deployment that stops eight processes in turn ends well, and no caller of a living process fails",
    () =>
      Effect.gen(function*() {
        const [stopped, living] = Arr.splitAt(yield* spawnMany(10), 8)
        const all = [...stopped, ...living]
        const batches = yield* Effect.forEach(
          stopped,
          (worker) => Effect.map(Effect.replicateEffect(freshKey, 20), (keys) => ({ worker, keys }))
        )
        const keys = batches.flatMap(({ keys }) => keys)
        const taskOf = (key: QueryKey.QueryKey): Task => ({ key, by: "run", leaseMillis: tenMinutes, stores: 0 })
        const pausing = (key: QueryKey.QueryKey): Task => ({ ...taskOf(key), pausesAt: ["in work"] })
        yield* Effect.forEach(batches, ({ keys, worker }) =>
          Effect.andThen(
            worker.start(keys.map(pausing)),
            Effect.forEach(keys, (key) => worker.reached(key, "in work"))
          ))
        // Each waits for what is stopped just before it, so that some work is handed over again and again.
        yield* Effect.forEach(Arr.zip(batches, batches.slice(1)), ([{ keys }, { worker }]) =>
          worker.start(keys.map(pausing)))
        yield* Effect.forEach(
          living,
          (worker) =>
            worker.start(keys.map((key) => ({ ...taskOf(key), tellsWaits: true })))
        )
        yield* Effect.forEach(
          living,
          (worker) => Effect.forEach(keys, (key) => untilCount(worker, key, "subscribed", 1))
        )

        yield* Effect.forEach(stopped, ({ stop }) => stop)

        yield* Effect.forEach(keys, (key) =>
          Effect.gen(function*() {
            const outcomes = (yield* Effect.forEach(living, (worker) => outcomesOf(worker, key, 1))).flat()
            const fence = Math.max(...fencesIn(all, key))
            assert.deepStrictEqual(outcomes, living.map(() => succeeded(key, fence)))
            const query = yield* QueryStateMachine.make(key)
            assert.strictEqual((yield* query.currentState)._tag, "Completed")
          }))
      }),
    90_000
  )

  it.effect(
    "that ends each process that does it ends three of twelve, and the others learn why",
    () =>
      Effect.gen(function*() {
        const workers = yield* spawnMany(12)
        const key = yield* freshKey
        yield* Effect.forEach(
          workers,
          ({ start }, index) =>
            start([{ key, by: "run", leaseMillis: 1000, wrong: index % 2 === 0 ? "exits" : "kills itself" }])
        )
        const exits = yield* Effect.forEach(workers, ({ news }) => Effect.exit(news(key, "ended")), {
          concurrency: "unbounded"
        })
        const living = exits.filter(Exit.isSuccess).map(({ value }) => value.outcome)
        const outcome: Outcome = { _tag: "Failed", error: "QueryErrored", attempts: 3 }
        assert.deepStrictEqual(living, Array.from({ length: 9 }, () => outcome))
      }),
    60_000
  )

  it.effect("that always fails is done once for a hundred callers in four processes, and all get the failure", () =>
    Effect.gen(function*() {
      const workers = yield* spawnMany(4)
      const key = yield* freshKey
      // Whoever did not wait, but found the failure, would run the query again.
      const task: Task = {
        key,
        by: "run",
        leaseMillis: tenMinutes,
        wrong: "fails",
        recovers: true,
        pausesAt: ["in work"],
        tellsWaits: true
      }
      yield* Effect.forEach(
        workers,
        (worker) => Effect.andThen(worker.start(Arr.makeBy(25, () => task)), untilCount(worker, key, "subscribed", 25))
      )
      yield* Effect.forEach(workers, ({ release }) => release(key))
      const outcomes = (yield* Effect.forEach(workers, (worker) => outcomesOf(worker, key, 25))).flat()
      const tags = outcomes.map((outcome) => outcome._tag === "Failed" ? outcome.error : outcome._tag)
      assert.deepStrictEqual(tags.toSorted(), [...Arr.makeBy(99, () => "QueryErrored"), "WorkFailed"])
      assert.strictEqual(fencesIn(workers, key).length, 1)
    }))

  it.effect(
    "that was frozen past its lease answers with what became of the query meanwhile, and else does it again",
    () =>
      Effect.gen(function*() {
        const redis = yield* RedisAdmin.connect(inject("redisUrl"))
        const [frozen = assert.fail(), other = assert.fail(), stopped = assert.fail()] = yield* spawnMany(3)
        const stories = yield* Effect.forEach(zombies, ({ at, meanwhile }) =>
          Effect.gen(function*() {
            const key = yield* freshKey
            yield* frozen.start([{ key, by: "run", leaseMillis: 1000, stores: 0, pausesAt: [at], tellsWaits: true }])
            yield* frozen.reached(key, at)
            const { fence } = yield* frozen.news(key, "claimed")
            return { at, fence, key, meanwhile, query: yield* QueryStateMachine.make(key) }
          }))
        yield* frozen.freeze
        yield* Effect.forEach(stories, ({ key }) => RawRecord.lapse(redis, key))

        const runBy = (worker: Worker, key: QueryKey.QueryKey) =>
          Effect.andThen(
            worker.start([{ key, by: "run", leaseMillis: tenMinutes, stores: 0, pausesAt: ["in work"] }]),
            worker.reached(key, "in work")
          )
        yield* Effect.forEach(stories, ({ key, meanwhile }) => {
          switch (meanwhile) {
            case "is run by another":
              return runBy(other, key)
            case "was run by another":
              return Effect.andThen(runBy(other, key), Effect.andThen(other.release(key), other.news(key, "ended")))
            case "was handed over by another":
              return runBy(stopped, key)
            case "was left alone":
              return Effect.void
          }
        })
        yield* stopped.stop
        // It hears of this when it is thawed.
        yield* Effect.forEach(stories, ({ key }) => frozen.release(key))
        yield* frozen.thaw

        yield* Effect.forEach(stories, ({ at, fence, key, meanwhile, query }) =>
          Effect.gen(function*() {
            if (meanwhile === "is run by another") {
              yield* untilCount(frozen, key, "subscribed", 1)
              yield* other.release(key)
            }
            const { outcome } = yield* frozen.news(key, "ended")
            const fences = fencesIn([frozen, other, stopped], key)
            const last = Math.max(...fences)
            assert.deepStrictEqual(outcome, succeeded(key, last), `${at}, ${meanwhile}`)
            assert.isAbove(last, fence)
            const isByAnother = meanwhile === "is run by another" || meanwhile === "was run by another"
            assert.strictEqual(fencesIn([frozen], key).length, isByAnother ? 1 : 2)
            assert.strictEqual((yield* query.currentState)._tag, "Completed")
          }))
      }),
    60_000
  )
})
