/**
 * Every interleaving of machines that share a query, at the granularity of the operations of the store: the heartbeats
 * and the subscriptions of each are steps too. Where two orders must come to the same, one of them is played.
 */
import { assert, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Fiber, Option } from "effect"
import {
  QueryKey,
  type QueryRecord,
  type QueryRun,
  QueryState,
  QueryStateMachine,
  Reason,
  RedisStore
} from "effect-query-state"
import * as Explorer from "../support/explorer/Explorer.ts"
import { assertFailureHolds, assertInvariants, type Failure } from "../support/explorer/invariants.ts"
import { driveTo } from "../support/queries.ts"

const key = QueryKey.makeUnsafe({ db: "warehouse", query: "daily-totals" })
const lease = Duration.seconds(30)

/** Thousands of plays are all computing: seconds as a rule, and longer where the machine does other things too. */
const patience = { timeout: 180_000 }

type Value = string | boolean
type Actor = Effect.Effect<Value, Failure, RedisStore.RedisStore | Explorer.Steps>
type Play = Explorer.Play<Value, Failure>

const work = (holder: string) => Effect.as(Explorer.step("work"), `${holder} did it`)

const executing = (holder: string): Actor =>
  Effect.flatMap(QueryStateMachine.make(key), (query) => query.withExecution(() => work(holder), { holder, lease }))

const resetting = (holder: string): Actor =>
  Effect.flatMap(QueryStateMachine.make(key), (query) => query.withReset(() => work(holder), { holder, lease }))

type RunOptions = Pick<
  QueryRun.Options<string, never, never, never, never, never, Explorer.Steps, never, never>,
  "maxAttempts" | "purge" | "recover" | "timeToLive"
>

/** Runs the query in no time, or joins the run that there is. */
const running = (holder: string, options?: RunOptions): Actor =>
  Effect.flatMap(QueryStateMachine.make(key), (query) =>
    query.run({
      execute: () => Effect.succeed(`${holder} did it`),
      result: Effect.succeedSome("joined"),
      holder,
      lease,
      ...options
    }))

const waiting: Actor = Effect.flatMap(
  QueryStateMachine.make(key),
  (query) => Effect.map(query.waitUntilComplete(), ({ state }) => state._tag)
)

const cancelling: Actor = Effect.flatMap(
  QueryStateMachine.make(key),
  (query) => Effect.map(query.trigger("Cancel", { reason: Reason.requested({ by: "ada" }) }), ({ changed }) => changed)
)

const passing: Actor = Effect.as(Explorer.pass(lease), "passed")
const killing = (actor: number): Actor => Effect.as(Explorer.kill(actor), "killed")

const last = ({ history }: Play): QueryRecord.QueryRecord => history.at(-1) ?? assert.fail("there is always a record")

const countOf = ({ history }: Play, tag: QueryState.Tag) => history.filter(({ state }) => state._tag === tag).length

const tell = (exit: Exit.Exit<Value, Failure> | undefined) =>
  exit === undefined
    ? "gone"
    : Exit.isSuccess(exit)
    ? exit.value
    : Option.match(Exit.findErrorOption(exit), { onNone: () => "interrupted", onSome: ({ _tag }) => _tag })

/** The last state of the query, and the result of each actor. */
const endOf = (play: Play) => [last(play).state._tag, ...play.exits.map(tell)].join(", ")

interface Program {
  readonly before: Explorer.Program<Value, Failure>["before"]
  readonly actors: ReadonlyArray<Actor>
  readonly ends: ReadonlyArray<string>
  readonly look?: (play: Play) => void
}

const explores = (name: string, { actors, before, ends, look }: Program) =>
  it(name, patience, () => {
    const seen = new Set<string>()
    Explorer.exploreThriftily({ key, before, actors }, (play) => {
      assertInvariants(play)
      for (const exit of play.exits) {
        if (exit !== undefined) {
          Option.map(Exit.findErrorOption(exit), (error) => assertFailureHolds(error, play, lease))
        }
      }
      // No query stays pending.
      const { state } = last(play)
      assert.isTrue(QueryState.isDeterminate(state) || QueryState.claimOf(state)?.expiresAt !== undefined)
      if (play.exits.every((exit) => exit !== undefined)) assert.strictEqual(play.leftBehind, 0)
      look?.(play)
      seen.add(endOf(play))
    })
    assert.deepStrictEqual([...seen].toSorted(), ends.toSorted())
  })

explores("two runs, a cancel, and a lease that lapses", {
  before: driveTo(key, "Queued"),
  actors: [executing("A"), executing("B"), cancelling, passing],
  ends: [
    "Cancelled, IllegalTransition, IllegalTransition, true, passed",
    "Cancelled, IllegalTransition, LeaseLost, true, passed",
    "Cancelled, IllegalTransition, QueryCancelled, true, passed",
    "Cancelled, IllegalTransition, RedisStoreError, true, passed",
    "Cancelled, LeaseLost, IllegalTransition, true, passed",
    "Cancelled, QueryCancelled, IllegalTransition, true, passed",
    "Cancelled, RedisStoreError, IllegalTransition, true, passed",
    "Completed, A did it, IllegalTransition, false, passed",
    "Completed, IllegalTransition, B did it, false, passed",
    "Errored, IllegalTransition, LeaseLost, false, passed",
    "Errored, IllegalTransition, RedisStoreError, false, passed",
    "Errored, LeaseLost, IllegalTransition, false, passed",
    "Errored, RedisStoreError, IllegalTransition, false, passed"
  ],
  look: (play) => assert.isAtMost(countOf(play, "Executing"), 1)
})

explores("two resets, and a lease that lapses", {
  before: driveTo(key, "Completed"),
  actors: [resetting("A"), resetting("B"), passing],
  ends: [
    "Known, A did it, IllegalTransition, passed",
    "Known, IllegalTransition, B did it, passed",
    "Resetting, IllegalTransition, LeaseLost, passed",
    "Resetting, IllegalTransition, RedisStoreError, passed",
    "Resetting, LeaseLost, IllegalTransition, passed",
    "Resetting, LeaseLost, LeaseLost, passed",
    "Resetting, LeaseLost, RedisStoreError, passed",
    "Resetting, RedisStoreError, IllegalTransition, passed",
    "Resetting, RedisStoreError, LeaseLost, passed"
  ]
})

explores("two calls of run", {
  before: Effect.void,
  actors: [running("A"), running("B")],
  ends: ["Completed, A did it, joined", "Completed, joined, B did it"],
  look: (play) => assert.strictEqual(countOf(play, "Executing"), 1)
})

explores("two calls of run, and a cancel", {
  before: Effect.void,
  actors: [running("A"), running("B"), cancelling],
  ends: [
    "Cancelled, QueryCancelled, QueryCancelled, true",
    "Completed, A did it, joined, false",
    "Completed, joined, B did it, false"
  ],
  look: (play) => assert.isAtMost(countOf(play, "Executing"), 1)
})

explores("two calls of run after a lapsed lease", {
  before: driveTo(key, "Errored", { reason: Reason.leaseExpired("C") }),
  actors: [running("A"), running("B")],
  ends: ["Completed, A did it, joined", "Completed, joined, B did it"],
  look: (play) => assert.strictEqual(countOf(play, "Executing"), 1)
})

explores("two calls of run, one of which dies: the other has a result within the lease", {
  before: Effect.void,
  actors: [running("A"), running("B"), killing(0)],
  ends: [
    "Completed, gone, B did it, killed",
    "Completed, gone, joined, killed"
  ],
  look: (play) => {
    assert.isAtMost(countOf(play, "Executing"), 2)
    assert.isAtMost(play.passedMillis, Duration.toMillis(lease))
  }
})

explores("a run and a wait: no change is missed, so that no time passes", {
  before: driveTo(key, "Queued"),
  actors: [executing("A"), waiting],
  ends: ["Completed, A did it, Completed"],
  look: (play) => assert.strictEqual(play.passedMillis, 0)
})

const step = (event: "FinishReset" | "Queue" | "Execute" | "Finish") =>
  RedisStore.RedisStore.use((store) => store.compareAndSet(key, { event }))

explores("a reset with a run, and a wait: the wait ends only with a determinate state", {
  before: driveTo(key, "Resetting"),
  actors: [
    waiting,
    Effect.as(Effect.all([step("FinishReset"), step("Queue"), step("Execute"), step("Finish")]), "ran")
  ],
  ends: ["Completed, Completed, ran", "Completed, Known, ran"],
  look: (play) => assert.strictEqual(play.passedMillis, 0)
})

/** Is interrupted at any moment. Returns its result and the state of the query afterwards. */
const interrupted: Actor = Effect.gen(function*() {
  const query = yield* QueryStateMachine.make(key)
  const run = yield* Effect.forkChild(query.withExecution(() => work("A"), { holder: "A", lease }))
  yield* Explorer.step("interrupt")
  yield* Fiber.interrupt(run)
  return `${tell(yield* Fiber.await(run))}, found ${(yield* query.currentState)._tag}`
})

explores("an interrupted run, and a cancel", {
  before: driveTo(key, "Queued"),
  actors: [interrupted, cancelling],
  ends: [
    "Cancelled, IllegalTransition, found Cancelled, true",
    "Cancelled, QueryCancelled, found Cancelled, true",
    "Cancelled, interrupted, found Cancelled, false",
    "Cancelled, interrupted, found Cancelled, true",
    "Completed, A did it, found Completed, false",
    "Completed, interrupted, found Completed, false"
  ]
})

/** A query that A executes as it is, and how that ends, in one step. */
const executedByA = driveTo(key, "Executing", { holder: "A", lease })

const endsBy = (event: "Cancel" | "Error" | "Finish", reason?: Reason.Reason): Actor =>
  Effect.gen(function*() {
    const store = yield* RedisStore.RedisStore
    const { version } = yield* store.read(key)
    const { changed } = yield* store.compareAndSet(key, { event, fence: version, reason })
    return changed
  })

const failed = Reason.fromCause(Cause.fail("it does not work"))

/** Those who found the query pending with their first command. */
const hasWaited = ({ calls }: Play, actor: number): boolean => {
  const first = calls.find((call) => call.actor === actor)
  return first !== undefined && QueryState.isPending(first.before.state)
}

for (const maxAttempts of [1, 2]) {
  const options = { maxAttempts }
  const joiners = [running("B", options), running("C", options)]
  const looks = (executions: number) => (play: Play) => {
    assert.isAtMost(countOf(play, "Executing"), executions)
    for (const { attempts } of play.history) assert.isAtMost(attempts, maxAttempts)
  }

  explores(`two who join a run that is interrupted, and at most ${maxAttempts} attempts`, {
    before: executedByA,
    actors: [endsBy("Cancel", Reason.interrupted), ...joiners],
    ends: ["Completed, true, B did it, joined", "Completed, true, joined, C did it"],
    look: looks(2)
  })

  explores(`two who join a run whose lease lapses, and at most ${maxAttempts} attempts`, {
    before: executedByA,
    actors: [passing, ...joiners],
    ends: maxAttempts === 1
      ? ["Errored, passed, QueryErrored, QueryErrored"]
      : ["Completed, passed, B did it, joined", "Completed, passed, joined, C did it"],
    look: looks(maxAttempts)
  })

  explores(`two who join a run whose lease lapses, one of whom dies, and at most ${maxAttempts} attempts`, {
    before: executedByA,
    actors: [passing, ...joiners, killing(1)],
    ends: maxAttempts === 1
      ? ["Errored, passed, gone, QueryErrored, killed"]
      : [
        "Completed, passed, gone, C did it, killed",
        "Completed, passed, gone, joined, killed",
        "Errored, passed, gone, QueryErrored, killed"
      ],
    look: looks(maxAttempts)
  })

  explores(`two who join a run that ends well, and at most ${maxAttempts} attempts`, {
    before: executedByA,
    actors: [endsBy("Finish"), ...joiners],
    ends: ["Completed, true, joined, joined"],
    look: looks(1)
  })

  explores(
    `two who join a run that fails share its failure, and who finds it runs it again, with at most ${maxAttempts} attempts`,
    {
      before: executedByA,
      actors: [
        endsBy("Error", failed),
        ...["B", "C"].map((holder) => running(holder, { ...options, recover: () => true }))
      ],
      ends: [
        "Completed, true, B did it, QueryErrored",
        "Completed, true, B did it, joined",
        "Completed, true, QueryErrored, C did it",
        "Completed, true, joined, C did it",
        "Errored, true, QueryErrored, QueryErrored"
      ],
      look: (play) => {
        const [, ...exits] = play.exits.map(tell)
        const finders = exits.filter((_, index) => !hasWaited(play, index + 1))
        assert.isAtMost(countOf(play, "Executing"), finders.length === 0 ? 1 : 2)
        exits.forEach((exit, index) => {
          if (exit === "QueryErrored") assert.isTrue(hasWaited(play, index + 1))
          if (exit === `${"BC"[index]} did it`) assert.isFalse(hasWaited(play, index + 1))
        })
      }
    }
  )
}

/** Is interrupted at any moment of a purge and a run. */
const interruptedTakeOver: Actor = Effect.gen(function*() {
  const query = yield* QueryStateMachine.make(key)
  const run = yield* Effect.forkChild(query.run({
    execute: () => Effect.succeed("A did it"),
    purge: () => Explorer.step("purge"),
    result: Effect.succeedSome("joined"),
    holder: "A",
    lease
  }))
  yield* Explorer.step("interrupt")
  yield* Fiber.interrupt(run)
  return tell(yield* Fiber.await(run))
})

explores("a purge that is interrupted, and one who joins: the query is run all the same", {
  before: driveTo(key, "Errored", { reason: Reason.leaseExpired("C") }),
  actors: [interruptedTakeOver, running("B", { purge: () => Effect.void })],
  ends: [
    "Completed, A did it, joined",
    "Completed, interrupted, B did it",
    "Completed, interrupted, joined",
    "Completed, joined, B did it"
  ],
  look: (play) => assert.isAtMost(countOf(play, "Executing"), 2)
})

const timeToLive = Duration.seconds(10)
const expiring: Actor = Effect.as(Explorer.pass(timeToLive), "expired")

explores("two calls of run, and a record that expires at any moment", {
  before: driveTo(key, "Completed", { timeToLive }),
  actors: [running("A", { timeToLive }), running("B", { timeToLive }), expiring, expiring],
  ends: [
    "Completed, A did it, B did it, expired, expired",
    "Completed, A did it, joined, expired, expired",
    "Completed, joined, B did it, expired, expired",
    "Completed, joined, joined, expired, expired"
  ],
  look: (play) => assert.isAtMost(countOf(play, "Executing"), 2)
})

it("skipped orders lead to no other outcomes", patience, () => {
  const program = {
    key,
    before: driveTo(key, "Queued"),
    actors: [executing("A"), executing("B"), cancelling]
  }
  const all = new Set<string>()
  const some = new Set<string>()
  const plays = Explorer.explore(program, (play) => all.add(endOf(play)))
  const distinct = Explorer.exploreThriftily(program, (play) => some.add(endOf(play)))
  assert.isBelow(distinct, plays)
  assert.deepStrictEqual([...some].toSorted(), [...all].toSorted())
})
