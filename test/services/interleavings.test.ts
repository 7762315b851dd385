/** Every interleaving of small programs, at the granularity of the operations of the store. */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Result } from "effect"
import { QueryKey, type QueryRecord, QueryState, Reason, RedisStore } from "effect-query-state"
import * as Explorer from "../support/explorer/Explorer.ts"
import { assertInvariants } from "../support/explorer/invariants.ts"
import { driveTo } from "../support/queries.ts"

const key = QueryKey.makeUnsafe({ db: "warehouse", query: "daily-totals" })
const lease = Duration.seconds(30)

/** Thousands of plays are all computing: seconds as a rule, and longer where the machine does other things too. */
const patience = { timeout: 180_000 }

const last = ({ history }: Explorer.Play<unknown, unknown>): QueryRecord.QueryRecord =>
  history.at(-1) ?? assert.fail("there is always a record")

type Store = RedisStore.RedisStore["Service"]
type Act = RedisStore.Command["event"] | "renew"

const act = (store: Store, act: Act, holder: string, fence: number | undefined) =>
  act === "renew"
    // An actor without a claim presents a fence that is never valid.
    ? Effect.map(
      store.renew(key, fence ?? 1, lease),
      (record): RedisStore.CommandResult => ({ record, changed: false })
    )
    : store.compareAndSet(key, { event: act, fence, holder, lease, reason: Reason.requested({ by: holder }) })

/** Sends its commands regardless of the answers, with the fence of its latest claim. */
const claimant = Effect.fnUntraced(function*(holder: string, ...acts: ReadonlyArray<Act>) {
  const store = yield* RedisStore.RedisStore
  let fence: number | undefined
  for (const next of acts) {
    const result = yield* Effect.result(act(store, next, holder, fence))
    if (Result.isFailure(result)) fence = undefined
    else if (result.success.changed) fence = QueryState.claimOf(result.success.record.state)?.fence
  }
})

/** Presents a fence once, that of a claim which may be long lost. */
const zombie = (event: Act, fence: () => number) =>
  RedisStore.RedisStore.use((store) => Effect.exit(Effect.suspend(() => act(store, event, "zombie", fence()))))

const canceller = (by: string) =>
  RedisStore.RedisStore.use((store) => act(store, "Cancel", by, undefined)).pipe(Effect.exit)

const how = ({ state }: QueryRecord.QueryRecord): string => QueryState.format(state)

/** Explores all interleavings of actors with so many steps each, and all ways in which they end. */
const explores = (name: string, program: {
  readonly before: Explorer.Program<unknown, never>["before"]
  readonly actors: ReadonlyArray<readonly [steps: number, Explorer.Program<unknown, never>["actors"][number]]>
  readonly ends: ReadonlyArray<string>
  readonly end?: (play: Explorer.Play<unknown, never>) => string
  readonly look?: (play: Explorer.Play<unknown, never>) => void
}) => {
  const count = Explorer.interleavings(...program.actors.map(([steps]) => steps))
  it(`${name}: ${count.toLocaleString("en")} interleavings`, patience, () => {
    const ends = new Set<string>()
    const actors = program.actors.map(([, actor]) => actor)
    const explored = Explorer.explore({ key, before: program.before, actors }, (play) => {
      assertInvariants(play)
      program.look?.(play)
      ends.add(program.end?.(play) ?? how(last(play)))
    })
    assert.strictEqual(explored, count)
    assert.deepStrictEqual([...ends].toSorted(), program.ends.toSorted())
  })
}

const isDecidedOnce = (play: Explorer.Play<unknown, unknown>) => {
  const decided = play.history.slice(1).filter(({ state }) => QueryState.isDeterminate(state))
  assert.deepStrictEqual(decided, [last(play)])
}

explores("two actors that queue, execute and finish, a cancel, and a lease that lapses", {
  before: Effect.void,
  actors: [
    [3, claimant("A", "Queue", "Execute", "Finish")],
    [3, claimant("B", "Queue", "Execute", "Finish")],
    [1, canceller("ada")],
    [1, Explorer.pass(lease)]
  ],
  ends: [
    "is ready",
    "was cancelled (requested by ada)",
    "was cancelled (the lease of A lapsed)",
    "was cancelled (the lease of B lapsed)",
    "finished with an error (the lease of A lapsed)",
    "finished with an error (the lease of B lapsed)"
  ],
  look: isDecidedOnce
})

explores("two actors that execute, renew and finish, a cancel, and a lease that lapses", {
  before: driveTo(key, "Queued"),
  actors: [
    [3, claimant("A", "Execute", "renew", "Finish")],
    [3, claimant("B", "Execute", "renew", "Finish")],
    [1, canceller("ada")],
    [1, Explorer.pass(lease)]
  ],
  ends: [
    "is ready",
    "was cancelled (requested by ada)",
    "finished with an error (the lease of A lapsed)",
    "finished with an error (the lease of B lapsed)"
  ],
  look: isDecidedOnce
})

const lapsed = (what: string) => [`${what} (the lease of A lapsed)`, `${what} (the lease of B lapsed)`]

explores("two actors that reset and run again, and a lease that lapses", {
  before: driveTo(key, "Completed"),
  actors: [
    [5, claimant("A", "Reset", "FinishReset", "Queue", "Execute", "Finish")],
    [5, claimant("B", "Reset", "FinishReset", "Queue", "Execute", "Finish")],
    [1, Explorer.pass(lease)]
  ],
  ends: [
    "is ready",
    ...["could not be reset", "was cancelled", "finished with an error"].flatMap(lapsed)
  ]
})

/** A query that is executed under a claim, and that claim. */
const executed = () => {
  let fence = 0
  return {
    fence: () => fence,
    before: Effect.map(driveTo(key, "Executing", { holder: "A", lease }), ({ version }) => {
      fence = version
    })
  }
}

for (
  const [event, end] of [["Finish", "is ready"], ["Error", "finished with an error (requested by zombie)"]] as const
) {
  const { before, fence } = executed()
  explores(`${event} against two who cancel, and a lease that lapses`, {
    before,
    actors: [[1, zombie(event, fence)], [1, canceller("ada")], [1, canceller("bob")], [1, Explorer.pass(lease)]],
    ends: [
      end,
      "was cancelled (requested by ada)",
      "was cancelled (requested by bob)",
      "finished with an error (the lease of A lapsed)"
    ],
    look: (play) => {
      isDecidedOnce(play)
      for (const { result } of play.calls) {
        const answer = Result.merge(result)
        assert.deepStrictEqual("record" in answer && answer.record, last(play), "everybody agrees")
      }
    }
  })
}

/** Whether the zombie wrote, whether there was no record for a while, and how the query ended. */
const endWithZombie = (play: Explorer.Play<unknown, never>) => {
  const result = play.calls.find(({ actor }) => actor === 0)?.result
  return [
    result !== undefined && Result.isSuccess(result) ? "in time" : "late",
    ...(play.history.some(({ version }) => version === 0) ? ["gone"] : []),
    how(last(play))
  ].join(", ")
}

const endsWithZombie = [
  "in time, could not be reset (the lease of B lapsed)",
  "in time, was cancelled (the lease of B lapsed)",
  "in time, finished with an error (the lease of B lapsed)",
  "in time, is ready",
  "late, finished with an error (the lease of A lapsed)",
  "late, is ready"
]

{
  const { before, fence } = executed()
  explores("a late Finish against a reset with a run, and a lease that lapses", {
    before,
    actors: [
      [1, zombie("Finish", fence)],
      [5, claimant("B", "Reset", "FinishReset", "Queue", "Execute", "Finish")],
      [1, Explorer.pass(lease)]
    ],
    ends: endsWithZombie,
    end: endWithZombie
  })
}

{
  const { before, fence } = executed()
  const resetAndRunAnew = claimant("B", "Reset", "FinishReset").pipe(
    Effect.andThen(Explorer.pass(RedisStore.knownTimeToLive)),
    Effect.andThen(claimant("B", "Queue", "Execute", "Finish"))
  )
  explores("a late Finish against a reset, and a run after the record is gone", {
    before,
    actors: [[1, zombie("Finish", fence)], [6, resetAndRunAnew], [1, Explorer.pass(lease)]],
    ends: [
      "in time, could not be reset (the lease of B lapsed)",
      "in time, gone, was cancelled (the lease of B lapsed)",
      "in time, gone, finished with an error (the lease of B lapsed)",
      "in time, gone, is ready",
      "in time, is ready",
      "late, finished with an error (the lease of A lapsed)",
      "late, gone, is ready"
    ],
    end: endWithZombie
  })
}
