import { assert, it } from "@effect/vitest"
import { Arbitrary, Context, DateTime, Duration, Effect, Layer, Redacted, Result, Schema } from "effect"
import {
  Progress,
  type QueryError,
  QueryEvent,
  QueryKey,
  QueryRecord,
  QueryState,
  Reason,
  RedisStore,
  type RedisStoreError,
  RedisStoreFlowMachine,
  RedisStoreLive,
  RedisStoreMemory,
  Transition
} from "effect-query-state"
import { inject } from "vitest"
import { errorFields, freshKey } from "../support/queries.ts"

type Store = RedisStore.RedisStore["Service"]

class Memory extends Context.Service<Memory, Store>()("test/equivalence/Memory") {}
class Redis extends Context.Service<Redis, Store>()("test/equivalence/Redis") {}
class Shared extends Context.Service<Shared, Store>()("test/equivalence/Shared") {}

const history = { length: 10 }

// FlowMachine's states cannot expire.
const keep = { completed: "3 hours", failed: "4 hours" } as const

const Stores = Layer.mergeAll(
  Layer.effect(Memory, RedisStore.RedisStore).pipe(Layer.provide(RedisStoreMemory.layerWith({ history, keep }))),
  Layer.effect(Redis, RedisStore.RedisStore).pipe(
    Layer.provide(RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")), history, keep }))
  ),
  Layer.effect(Shared, RedisStore.RedisStore).pipe(
    Layer.provide(
      RedisStoreFlowMachine.layer({ url: Redacted.make(inject("redisUrl")), dialect: "reset-failed", history })
    )
  )
)

const Query = Schema.Literals([0, 1, 2])

// A number stands for an event that the state at hand accepts, so that lives become long.
const Event = Schema.Union([QueryEvent.QueryEvent, Schema.Literals([0, 1, 2])])

// Each store has versions of its own, so a fence is named: the latest one, the nth one, or one that never was. What does
// not lose the claim comes first, and first twice.
const Fence = Schema.Union([
  Schema.Literals(["none", "latest"]),
  Schema.Literals(["none", "latest"]),
  Schema.Literals(["never", 0, 1, 2, 3])
])

// Half of the paths are one event.
const Path = Schema.Union([
  Schema.Tuple([Event]),
  Schema.Array(Event).check(Schema.isMinLength(2), Schema.isMaxLength(6))
])

const Command = Schema.Struct({
  path: Path,
  fence: Fence,
  isExpected: Schema.NullOr(Schema.Boolean),
  isLeased: Schema.Boolean,
  holder: Schema.NullOr(Schema.Literals(["A", "B"])),
  // What an interruption takes back depends on its reason.
  reason: Schema.Union([Schema.NullOr(Reason.Reason), Schema.Literal("interrupted")]),
  traceparent: Schema.NullOr(Schema.Literals([
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
  ])),
  // In hours: nothing expires within a play. Only where a record can expire, and a path ends with an outcome.
  timeToLive: Schema.NullOr(Schema.Literals([1, 2])),
  // Only where a store keeps results, and a run ends that can leave one.
  result: Schema.NullOr(Schema.Literals(["Leave", "Drop", "Get"]))
})

/** What a holder can wait for; a renewal names the first few. */
const waits: ReadonlyArray<QueryRecord.WaitsFor> = ["stock", "sales"].map((query, index) => ({
  key: QueryKey.makeUnsafe({ db: "warehouse", query }),
  version: index
}))

const Renew = Schema.TaggedStruct("Renew", {
  query: Query,
  fence: Fence,
  progress: Schema.NullOr(Progress.Progress),
  waiting: Schema.NullOr(Schema.Literals([0, 1, 2]))
})

const Step = Schema.Union([
  Schema.TaggedStruct("CompareAndSet", { query: Query, command: Command }),
  Schema.TaggedStruct("CompareAndSetMany", { commands: Schema.Tuple([Command, Command, Command]) }),
  Renew,
  Schema.TaggedStruct("Read", { query: Query }),
  Schema.TaggedStruct("ReadMany", {})
])

const lease = Duration.hours(1)

const keepOf: { readonly [S in QueryState.Tag]?: Duration.Input } = { Completed: keep.completed, Errored: keep.failed }

const outcomeEvents: ReadonlySet<QueryEvent.QueryEvent | undefined> = new Set(["Finish", "Error", "Cancel"] as const)

/** How long a record is kept, in whole hours; `undefined` for ever. */
const hoursOf = ({ changedAt, keptUntil }: QueryRecord.QueryRecord) =>
  changedAt && keptUntil && Duration.toHours(DateTime.distance(changedAt, keptUntil))

/** The attempts after a path, one event after the other. */
const attemptsAfter = (before: QueryRecord.QueryRecord, { event, reason }: RedisStore.Command) => {
  let { attempts } = before
  let from = before.state._tag
  for (const step of Transition.eventsOf(event)) {
    attempts = Transition.attemptsAfter(attempts, step, from, reason)
    from = Transition.next(from, step) ?? assert.fail("an accepted path has a next state")
  }
  return from === "Known" ? 0 : attempts
}

const actionOf = (
  action: typeof Command.Type["result"],
  last: QueryEvent.QueryEvent | undefined
): RedisStore.ResultAction | undefined => {
  if (action !== "Leave") return action === null ? undefined : { _tag: action }
  return last === "Finish" || last === "Error" ? { _tag: "Leave", text: last } : undefined
}

type Outcome = Result.Result<RedisStore.CommandResult, QueryError.LeaseLost | RedisStoreError.RedisStoreError>

/** What the contract says of a command: the record stays, or goes on to a state. */
const decide = (before: QueryRecord.QueryRecord, { event, fence, ifVersion, reason }: RedisStore.Command) => {
  if (fence !== undefined && (fence !== before.version || before.version === 0)) return "LeaseLost"
  if (ifVersion !== undefined && ifVersion !== before.version) return "Refused"
  const isHeld = "claim" in before.state && before.state.claim?.expiresAt !== undefined
  if (isHeld && fence === undefined && Transition.eventsOf(event)[0] !== "Cancel") return "Refused"
  return Result.match(Transition.applyPath(before.state, event, { reason }), {
    onFailure: () => "Refused" as const,
    onSuccess: (states) => states.at(-1) ?? assert.fail("a path has a last state")
  })
}

/** Compares an answer with what the table says of the record that the same store answered before. */
const agrees = (
  before: QueryRecord.QueryRecord,
  command: RedisStore.Command,
  outcome: Outcome,
  hasTimeToLive: boolean
) => {
  const decision = decide(before, command)
  if (decision === "LeaseLost") return claimIsLost(outcome, command.fence, before)
  if (decision === "Refused") {
    const { results, ...refused } = Result.getOrThrow(outcome)
    assert.strictEqual(results !== undefined, command.result?._tag === "Get")
    return assert.deepStrictEqual(refused, { record: before, changed: false })
  }
  const { changed, record } = Result.getOrThrow(outcome)
  assert.isAtLeast(record.version, before.version + Transition.eventsOf(command.event).length)
  assert.deepStrictEqual({ changed, state: withoutClaim(record.state) }, { changed: true, state: decision })
  assert.strictEqual(record.progress, undefined)
  assert.strictEqual(record.waitsFor, undefined)
  assert.strictEqual(record.attempts, attemptsAfter(before, command))
  const timeToLive = hasTimeToLive ? command.timeToLive ?? keepOf[decision._tag] : undefined
  assert.strictEqual(hoursOf(record), timeToLive && Duration.toHours(timeToLive))
  const states = Result.getOrThrow(Transition.applyPath(before.state, command.event))
  assert.strictEqual(record.traceparent, states.some(QueryState.isPending) ? command.traceparent : before.traceparent)
  const claim = claimOf(record)
  const isClaimed = QueryState.isPending(decision) && (command.lease ?? command.holder) !== undefined
  assert.deepStrictEqual(
    { fence: claim?.fence, holder: claim?.holder, isLeased: claim?.expiresAt !== undefined },
    isClaimed
      ? { fence: record.version, holder: command.holder, isLeased: command.lease !== undefined }
      : { fence: undefined, holder: undefined, isLeased: false }
  )
}

const agreesOnRenewal = (
  before: QueryRecord.QueryRecord,
  fence: number,
  { progress, waitsFor }: RedisStore.Report,
  outcome: Outcome
) => {
  if (!QueryState.isPending(before.state) || fence !== before.version) {
    return claimIsLost(outcome, fence, before)
  }
  const { record } = Result.getOrThrow(outcome)
  const expiresAt = claimOf(record)?.expiresAt ?? assert.fail("a renewed claim has a lease")
  const claim = { ...before.state.claim, fence, expiresAt }
  const { waitsFor: waitedFor, ...others } = before
  const waiting = waitsFor ?? waitedFor ?? []
  assert.deepStrictEqual(record, {
    ...others,
    ...(waiting.length === 0 ? undefined : { waitsFor: waiting }),
    state: QueryState.make(before.state._tag, { claim }),
    ...(progress === undefined ? undefined : { progress: Result.getOrThrow(Progress.make(progress)) })
  })
}

/** Sends the commands on fresh queries of a store, and returns its answers in terms that hold for every store. */
const play = Effect.fnUntraced(
  function*(store: Store, keys: ReadonlyArray<QueryKey.QueryKey>, steps: ReadonlyArray<typeof Step.Type>) {
    const players = keys.map((key) => ({ key, latest: QueryRecord.absent(key), versions: [0] }))
    const at = (query: number) => players[query] ?? assert.fail(`there is no query ${query}`)

    const fenceOf = (query: number, fence: typeof Fence.Type) => {
      const { versions } = at(query)
      if (fence === "none") return undefined
      return fence === "never" ? 3 : versions.at(fence === "latest" ? -1 : fence % versions.length)
    }

    const commandOf = (
      query: number,
      { fence, holder, isExpected, isLeased, path, reason, result, timeToLive, traceparent }: typeof Command.Type
    ): RedisStore.Command => {
      const { latest } = at(query)
      let from = latest.state._tag
      const events = path.map((event) => {
        const accepted = Transition.edges.filter((edge) => edge.from === from)
        const chosen = typeof event === "string" ? event : accepted[event % accepted.length]?.event ?? "Queue"
        from = Transition.next(from, chosen) ?? from
        return chosen
      })
      return {
        event: [events[0] ?? "Queue", ...events.slice(1)],
        fence: fenceOf(query, fence),
        ifVersion: isExpected === null ? undefined : isExpected ? latest.version : latest.version + 1,
        lease: isLeased ? lease : undefined,
        holder: holder ?? undefined,
        reason: reason === "interrupted" ? Reason.interrupted : reason ?? undefined,
        traceparent: traceparent ?? undefined,
        timeToLive: timeToLive !== null && store.hasTimeToLive && outcomeEvents.has(events.at(-1))
          ? Duration.hours(timeToLive)
          : undefined,
        result: store.hasResults ? actionOf(result, events.at(-1)) : undefined
      }
    }

    const answers: Array<unknown> = []
    const results: Array<unknown> = []
    const noteResults = Effect.fnUntraced(function*(query: number) {
      const { key, versions } = at(query)
      const { failure, success } = store.hasResults ? yield* store.results(key) : {}
      results.push([success, failure].map((left) => left && [versions.indexOf(left.version), left.text]))
    })
    const note = (query: number, outcome: Outcome) => {
      const player = at(query)
      const record = Result.match(outcome, { onFailure: recordOf, onSuccess: ({ record }) => record })
      if (!player.versions.includes(record.version)) player.versions.push(record.version)
      player.latest = record
      const nth = (version: number | undefined) => version === undefined ? undefined : player.versions.indexOf(version)
      const claim = claimOf(record)
      answers.push({
        query,
        outcome: Result.match(outcome, { onFailure: ({ _tag }) => _tag, onSuccess: ({ changed }) => changed }),
        version: nth(record.version),
        state: withoutClaim(record.state),
        claim: claim && { fence: nth(claim.fence), holder: claim.holder, isLeased: claim.expiresAt !== undefined },
        isTimed: record.changedAt !== undefined,
        attempts: record.attempts,
        progress: record.progress,
        waitsFor: record.waitsFor,
        traceparent: record.traceparent
      })
    }

    for (const step of steps) {
      switch (step._tag) {
        case "CompareAndSet": {
          const command = commandOf(step.query, step.command)
          const outcome = yield* Effect.result(store.compareAndSet(at(step.query).key, command))
          agrees(at(step.query).latest, command, outcome, store.hasTimeToLive)
          note(step.query, outcome)
          yield* noteResults(step.query)
          break
        }
        case "CompareAndSetMany": {
          const commands = step.commands.map((command, query) => commandOf(query, command))
          const outcomes = yield* store.compareAndSetMany(commands.map((command, query) => [at(query).key, command]))
          for (const [query, outcome] of outcomes.entries()) {
            const command = commands[query] ?? assert.fail("more answers than commands")
            agrees(at(query).latest, command, outcome, store.hasTimeToLive)
            note(query, outcome)
            yield* noteResults(query)
          }
          break
        }
        case "Renew": {
          const fence = fenceOf(step.query, step.fence) ?? 1
          const { progress, waiting } = step
          const waitsFor = waiting === null ? undefined : waits.slice(0, waiting)
          const report = { progress: progress ?? undefined, waitsFor }
          const outcome = yield* store.renew(at(step.query).key, fence, lease, report).pipe(
            Effect.map((record) => ({ record, changed: false })),
            Effect.result
          )
          agreesOnRenewal(at(step.query).latest, fence, report, outcome)
          note(step.query, outcome)
          break
        }
        case "Read": {
          assert.deepStrictEqual(yield* store.read(at(step.query).key), at(step.query).latest)
          break
        }
        case "ReadMany": {
          const records = yield* store.readMany(keys)
          assert.deepStrictEqual(records, players.map(({ latest }) => Result.succeed(latest)))
          break
        }
      }
    }
    for (const { key, versions } of players) {
      for (const { event, from, holder, reason, to, version } of yield* store.history(key)) {
        answers.push({ nth: versions.indexOf(version), event, from, to, holder, reason })
      }
    }
    return { answers, results }
  }
)

/** The record that came with an error; an error without one has no place here. */
const recordOf = (error: QueryError.LeaseLost | RedisStoreError.RedisStoreError) => {
  if (error._tag !== "LeaseLost") throw error
  return error.record
}

const claimIsLost = (outcome: Outcome, fence: number | undefined, record: QueryRecord.QueryRecord) =>
  assert.deepStrictEqual(Result.mapError(outcome, errorFields), Result.fail({ _tag: "LeaseLost", fence, record }))

const claimOf = ({ state }: QueryRecord.QueryRecord) => "claim" in state ? state.claim : undefined

const withoutClaim = (state: QueryState.QueryState) =>
  QueryState.make(state._tag, { reason: "reason" in state ? state.reason : undefined })

it.layer(Stores, { excludeTestServices: true, timeout: "30 seconds" })("RedisStore", (it) => {
  it.effect.prop(
    "memory, Redis and FlowMachine's Redis give the same answers to the same commands and follow the table",
    [Arbitrary.array(Arbitrary.schema(Step), { maxLength: 100 })],
    ([steps]) =>
      Effect.gen(function*() {
        const keys = yield* Effect.all([freshKey, freshKey, freshKey])
        const expected = yield* play(yield* Memory, keys, steps)
        assert.deepStrictEqual(yield* play(yield* Redis, keys, steps), expected)
        const { answers } = yield* play(yield* Shared, keys, steps)
        assert.deepStrictEqual(answers, expected.answers)
      }),
    { arbitrary: { runs: 150, size: 100 } }
  )
})
