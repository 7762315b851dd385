/**
 * What every `RedisStore` does. The test file of each store calls `suite`.
 */
import { assert, it } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Result, Schema, Stream } from "effect"
import {
  QueryError,
  QueryEvent,
  QueryKey,
  QueryRecord,
  QueryState,
  Reason,
  RedisStore,
  Transition
} from "effect-query-state"
import { TestClock } from "effect/testing"
import { randomUUID } from "node:crypto"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"

/** What drives the leases of a store: the clock of the test, or time itself. */
export type Time = "TestClock" | "real"

/**
 * What a store cannot offer. Its own tests show that it refuses it.
 *
 * - `without`: a state that no query can come into.
 * - `refusesDb`: which ids of databases it does not take.
 */
export interface Limits {
  readonly without?: QueryState.Tag | undefined
  readonly refusesDb?: ((id: string) => boolean) | undefined
}

/** Longer than any test takes. */
const longLease = Duration.hours(1)

/** Short enough to wait for, in real time too. */
const shortLease = Duration.millis(25)

/** Long enough to be renewed in time on a slow machine, and short enough to wait for. */
const renewableLease = Duration.seconds(1)

const isPending = (tag: QueryState.Tag): tag is QueryState.Pending["_tag"] => QueryState.isPending(QueryState.make(tag))

const isLeaseLost = Schema.is(QueryError.LeaseLost)

/** Fails the test unless the error is `LeaseLost`, and returns its fields. */
const lostClaim = <A, E>(self: Effect.Effect<A, E | QueryError.LeaseLost>) =>
  Effect.map(Effect.flip(self), (error) => {
    if (!(isLeaseLost(error))) throw new Error(`expected LeaseLost, got ${String(error)}`)
    return { fence: error.fence, record: error.record }
  })

/** The answer to a command that moved a query on, with the version and time that the store chose. */
const moved = (before: QueryRecord.QueryRecord, after: RedisStore.CommandResult, state: QueryState.QueryState) => {
  const { attempts, changedAt, version } = after.record
  if (changedAt === undefined) throw new Error("a changed record has a time")
  assert.isAbove(version, before.version)
  assert.isAtLeast(
    DateTime.toEpochMillis(changedAt),
    DateTime.toEpochMillis(before.changedAt ?? DateTime.makeUnsafe(0))
  )
  assert.deepStrictEqual(after, { record: { key: before.key, state, version, attempts, changedAt }, changed: true })
}

/** The claim that a record was given at its last change. */
const claimOf = ({ changedAt, version }: QueryRecord.QueryRecord, options: {
  readonly holder?: string
  readonly lease?: Duration.Duration
}): QueryState.Claim => ({
  fence: version,
  ...(options.holder === undefined ? undefined : { holder: options.holder }),
  ...(options.lease === undefined || changedAt === undefined
    ? undefined
    : { expiresAt: DateTime.addDuration(changedAt, options.lease) })
})

/** What a pending query becomes when its lease lapses. */
const lapsed = (tag: QueryState.Pending["_tag"], holder?: string | undefined): QueryState.QueryState =>
  QueryState.make(Transition.next(tag, Transition.lapseEvents[tag]) ?? tag, { reason: Reason.leaseExpired(holder) })

/** Runs the conformance suite against a store whose leases are driven by `time`. */
export const suite = (
  name: string,
  layer: Layer.Layer<RedisStore.RedisStore, unknown>,
  { refusesDb = () => false, time, without }: { readonly time: Time } & Limits
) => {
  const tags = QueryState.tags.filter((tag) => tag !== without)
  const edges = Transition.edges.filter(({ from, to }) => tags.includes(from) && tags.includes(to))
  const edgesInto = (tags: ReadonlyArray<QueryState.Tag>) => edges.filter(({ to }) => tags.includes(to))
  const pendingTags = tags.filter(isPending)
  const lapsingTags = pendingTags.filter((tag) => Transition.next(tag, Transition.lapseEvents[tag]) !== without)
  const reasonedTags = tags.filter((tag) => "reason" in QueryState.make(tag))
  const states = tags.map((tag) => ({ tag }))
  const refusals = tags.flatMap((from) =>
    QueryEvent.all.filter((event) => !edges.some((edge) => edge.from === from && edge.event === event))
      .map((event) => ({ from, event }))
  )
  /** Steps of the holder of a lease that others must not take. */
  const steps = edges.filter(({ event, from }) => isPending(from) && event !== "Cancel")

  const advance = (duration: Duration.Duration) =>
    time === "TestClock" ? TestClock.adjust(duration) : Effect.sleep(duration)

  /** Lets time pass until every lease of that length which was given so far has lapsed: a later one is the witness. */
  const outlast = Effect.fnUntraced(function*(lease: Duration.Duration) {
    const store = yield* RedisStore.RedisStore
    const witness = yield* freshKey
    yield* store.compareAndSet(witness, { event: "Queue", lease })
    yield* Effect.repeat(Effect.andThen(advance(Duration.millis(5)), store.read(witness)), {
      until: ({ state }) => QueryState.isDeterminate(state)
    })
  })

  return it.layer(layer, { excludeTestServices: time === "real", timeout: "30 seconds" })(
    `RedisStore (${name})`,
    (it) => {
      it.effect("a path is applied whole: each event is a transition of its own, and the claim is that of the last", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const before = yield* store.read(key)
          const { changed, record } = yield* store.compareAndSet(key, {
            event: ["Queue", "Execute"],
            lease: longLease,
            holder: "worker 1"
          })
          assert.isTrue(changed)
          assert.isAtLeast(record.version, before.version + 2)
          assert.deepStrictEqual(
            record.state,
            QueryState.make("Executing", { claim: claimOf(record, { holder: "worker 1", lease: longLease }) })
          )
          const done = yield* store.compareAndSet(key, {
            event: ["Finish", "Reset", "FinishReset", "Queue", "Execute"],
            fence: record.version,
            holder: "worker 2"
          })
          assert.isAtLeast(done.record.version, record.version + 5)
          assert.deepStrictEqual(
            done.record.state,
            QueryState.make("Executing", { claim: claimOf(done.record, { holder: "worker 2" }) })
          )
        }))

      it.effect("a path of which one event is refused changes nothing", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const before = yield* driveTo(key, "Executing")
          const refused = yield* store.compareAndSet(key, { event: ["Finish", "Reset", "Execute"] })
          assert.deepStrictEqual(refused, { record: before, changed: false })
          assert.deepStrictEqual(yield* store.read(key), before)
        }))

      it.effect("an expected version refuses the command on any other, and proves no claim", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const before = yield* driveTo(key, "Executing", { lease: longLease })
          for (
            const command of [{ event: "Cancel", ifVersion: before.version + 1 }, {
              event: "Finish",
              ifVersion: before.version
            }] as const
          ) {
            assert.deepStrictEqual(yield* store.compareAndSet(key, command), { record: before, changed: false })
          }
          assert.isTrue((yield* store.compareAndSet(key, { event: "Cancel", ifVersion: before.version })).changed)
          const fresh = yield* freshKey
          assert.isTrue((yield* store.compareAndSet(fresh, { event: "Queue", ifVersion: 0 })).changed)
        }))

      it.effect("a command that names its operation can be sent again, until the query moves on", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const { version: fence } = yield* driveTo(key, "Executing", { lease: longLease })
          const finish = { event: "Finish", fence, operation: fence } as const
          const first = yield* store.compareAndSet(key, finish)
          assert.isTrue(first.changed)
          assert.deepStrictEqual(yield* store.compareAndSet(key, finish), first)
          assert.deepStrictEqual(yield* store.read(key), first.record)

          const lost = yield* Effect.flip(store.compareAndSet(key, { ...finish, operation: fence + 1 }))
          assert.deepStrictEqual(errorFields(lost), { _tag: "LeaseLost", fence, record: first.record })
          const { record } = yield* store.compareAndSet(key, { event: "Reset" })
          assert.deepStrictEqual(errorFields(yield* Effect.flip(store.compareAndSet(key, finish))), {
            _tag: "LeaseLost",
            fence,
            record
          })
          for (const operation of [0, -1, 1.5, Number.NaN, Number.MAX_SAFE_INTEGER + 1]) {
            const error = yield* Effect.flip(store.compareAndSet(key, { event: "FinishReset", operation }))
            assert.strictEqual(error.reason._tag, "InvalidInput")
          }
        }))

      it.effect("a query without a record is Known with version 0, and reading it writes none", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const absent = { key, state: QueryState.known, version: 0, attempts: 0 }
          assert.deepStrictEqual(yield* store.read(key), absent)
          assert.deepStrictEqual(yield* store.readMany([key]), [Result.succeed(absent)])
          assert.deepStrictEqual(yield* store.compareAndSet(key, { event: "Finish" }), {
            record: absent,
            changed: false
          })
          assert.deepStrictEqual(yield* store.read(key), absent)
        }))

      it.effect.each(edges)(
        "$event moves a query from $from to $to",
        ({ event, from, to }) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const before = yield* driveTo(key, from)
            const answer = yield* store.compareAndSet(key, { event })
            moved(before, answer, QueryState.make(to))
            assert.deepStrictEqual(yield* store.read(key), answer.record)
          })
      )

      it.effect.each(refusals)(
        "$event is refused for a query that is $from and changes nothing",
        ({ event, from }) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const before = yield* driveTo(key, from)
            const options = { holder: "late", lease: shortLease, reason: Reason.interrupted }
            assert.deepStrictEqual(yield* store.compareAndSet(key, { event }), { record: before, changed: false })
            assert.deepStrictEqual(yield* store.compareAndSet(key, { event, ...options }), {
              record: before,
              changed: false
            })
            assert.deepStrictEqual(
              yield* store.compareAndSet(key, {
                event,
                ...(before.version > 0 ? { fence: before.version } : undefined),
                ...options
              }),
              {
                record: before,
                changed: false
              }
            )
            assert.deepStrictEqual(yield* store.read(key), before)
          })
      )

      it.effect("one of many racing commands wins, and all get the same record", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const answers = yield* Effect.all(
            Array.from({ length: 50 }, () => store.compareAndSet(key, { event: "Queue" })),
            { concurrency: "unbounded" }
          )
          const record = yield* store.read(key)
          assert.deepStrictEqual(
            answers.toSorted((left, right) => Number(right.changed) - Number(left.changed)),
            answers.map((_, index) => ({ record, changed: index === 0 }))
          )
        }))

      it.effect.prop("a reason is stored unchanged", [Reason.Reason], ([reason]) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          for (const { event, from, to } of edgesInto(reasonedTags)) {
            const key = yield* freshKey
            const before = yield* driveTo(key, from)
            const answer = yield* store.compareAndSet(key, { event, reason })
            moved(before, answer, QueryState.make(to, { reason }))
            assert.deepStrictEqual(yield* store.read(key), answer.record)
          }
        }), { arbitrary: { runs: 25 } })

      it.effect.each([
        Reason.failed({ error: "SqlError", message: "deadlock" }),
        Reason.failed({ error: "e".repeat(300), message: "m".repeat(2_000), detail: "\u0000\n\"\\😀".repeat(2_000) }),
        Reason.requested(),
        Reason.requested({ by: "ada" }),
        Reason.requested({ by: "ada", note: "wrong table" }),
        Reason.interrupted,
        Reason.leaseExpired(),
        Reason.leaseExpired("worker 1"),
        Reason.unrecorded
      ])("the reason $_tag is stored", (reason) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          for (const { event, from, to } of edgesInto(reasonedTags)) {
            const key = yield* freshKey
            yield* driveTo(key, from)
            yield* store.compareAndSet(key, { event, reason })
            assert.deepStrictEqual((yield* store.read(key)).state, QueryState.make(to, { reason }))
          }
        }))

      it.effect("reasons and claims do not appear in later states or later runs", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const all = { holder: "worker 1", lease: longLease, reason: Reason.requested({ by: "ada" }) }
          const claim = { holder: "worker 1", lease: longLease }
          type Step = readonly [
            event: QueryEvent.QueryEvent,
            options: Omit<RedisStore.UnfencedCommand, "event">,
            state: (record: QueryRecord.QueryRecord) => QueryState.QueryState
          ]
          const resetFailures: ReadonlyArray<Step> = without === "ResetFailed" ? [] : [
            ["Error", {}, () => QueryState.make("ResetFailed", { reason: Reason.unrecorded })],
            ["Reset", all, (record) => QueryState.make("Resetting", { claim: claimOf(record, claim) })],
            ["Error", all, () => QueryState.make("ResetFailed", { reason: all.reason })],
            ["Reset", {}, () => QueryState.make("Resetting")]
          ]
          const life: ReadonlyArray<Step> = [
            ["Queue", all, (record) => QueryState.make("Queued", { claim: claimOf(record, claim) })],
            ["Execute", {}, () => QueryState.make("Executing")],
            ["Finish", all, () => QueryState.completed],
            ["Reset", all, (record) => QueryState.make("Resetting", { claim: claimOf(record, claim) })],
            ["FinishReset", all, () => QueryState.known],
            ["Queue", {}, () => QueryState.make("Queued")],
            ["Execute", all, (record) => QueryState.make("Executing", { claim: claimOf(record, claim) })],
            ["Error", all, () => QueryState.make("Errored", { reason: all.reason })],
            ["Reset", {}, () => QueryState.make("Resetting")],
            ...resetFailures,
            ["FinishReset", {}, () => QueryState.known],
            ["Queue", all, (record) => QueryState.make("Queued", { claim: claimOf(record, claim) })],
            ["Cancel", all, () => QueryState.make("Cancelled", { reason: all.reason })],
            ["Reset", {}, () => QueryState.make("Resetting")],
            ["FinishReset", {}, () => QueryState.known]
          ]
          let before = yield* store.read(key)
          for (const [event, options, state] of life) {
            const answer = yield* store.compareAndSet(key, { event, ...options, fence: before.version || undefined })
            moved(before, answer, state(answer.record))
            before = yield* store.read(key)
            assert.deepStrictEqual(before, answer.record)
          }
        }))

      it.effect("a query that was reset has a new version, and no version is used twice", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const life: ReadonlyArray<QueryEvent.QueryEvent> = ["Queue", "Execute", "Finish", "Reset", "FinishReset"]
          const versions: Array<number> = []
          for (let lives = 0; lives < 40; lives++) {
            for (const event of life) {
              versions.push((yield* store.compareAndSet(key, { event })).record.version)
            }
            const { changedAt, ...known } = yield* store.read(key)
            assert.deepStrictEqual(known, {
              key,
              state: QueryState.known,
              version: versions[versions.length - 1] ?? 0,
              attempts: 0
            })
            assert.isDefined(changedAt)
          }
          assert.deepStrictEqual(versions, [...new Set(versions)].toSorted((left, right) => left - right))
        }))

      it.effect.each(
        edgesInto(pendingTags).flatMap(({ event, from, to }) =>
          [{ holder: "worker 1", lease: longLease }, { holder: "worker 1" }, { lease: longLease }].map((options) => ({
            event,
            from,
            to,
            options,
            given: Object.keys(options).join(" and ")
          }))
        )
      )("$event claims a query that is $from for its $given", ({ event, from, options, to }) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const before = yield* driveTo(key, from)
          const answer = yield* store.compareAndSet(key, { event, ...options })
          moved(before, answer, QueryState.make(to, { claim: claimOf(answer.record, options) }))
          assert.deepStrictEqual(yield* store.read(key), answer.record)
        }))

      it.effect.each(steps)(
        "a query that is $from under a lease accepts $event only with the fence of its claim",
        ({ event, from, to }) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const before = yield* driveTo(key, from, { lease: longLease })
            assert.deepStrictEqual(yield* store.compareAndSet(key, { event }), { record: before, changed: false })
            assert.deepStrictEqual(yield* store.read(key), before)
            moved(before, yield* store.compareAndSet(key, { event, fence: before.version }), QueryState.make(to))
          })
      )

      it.effect.each(steps)(
        "a query that is $from without a lease accepts $event from any caller",
        ({ event, from, to }) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const before = yield* driveTo(key, from, { holder: "worker 1" })
            moved(before, yield* store.compareAndSet(key, { event }), QueryState.make(to))
          })
      )

      it.effect.each(Transition.sources("Cancel").map((from) => ({ from })))(
        "any caller can cancel a query that is $from under a lease, and its holder gets LeaseLost",
        ({ from }) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const before = yield* driveTo(key, from, { holder: "worker 1", lease: longLease })
            const fence = before.version
            const answer = yield* store.compareAndSet(key, { event: "Cancel", reason: Reason.requested({ by: "ada" }) })
            moved(before, answer, QueryState.make("Cancelled", { reason: Reason.requested({ by: "ada" }) }))

            const lost = { fence, record: answer.record }
            assert.deepStrictEqual(yield* lostClaim(store.compareAndSet(key, { event: "Finish", fence })), lost)
            assert.deepStrictEqual(yield* lostClaim(store.compareAndSet(key, { event: "Cancel", fence })), lost)
            assert.deepStrictEqual(yield* lostClaim(store.renew(key, fence, longLease)), lost)
            assert.deepStrictEqual(yield* store.read(key), answer.record)
          })
      )

      it.effect.each(states)(
        "a stale fence fails on a query that is $tag for every event and writes nothing",
        ({ tag }) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const record = yield* driveTo(key, tag, { lease: longLease })
            const options = { holder: "late", lease: shortLease, reason: Reason.interrupted }
            for (const event of QueryEvent.all) {
              for (const fence of [record.version - 1, record.version + 1]) {
                const lost = yield* lostClaim(store.compareAndSet(key, { event, fence, ...options }))
                assert.deepStrictEqual(lost, { fence, record }, event)
              }
            }
            assert.deepStrictEqual(yield* store.read(key), record)
          })
      )

      it.effect("no fence is valid on a query without a record, not even 0", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const record = QueryRecord.absent(key)
          for (const fence of [0, 1, -1, 1_700_000_000_000_000]) {
            assert.deepStrictEqual(yield* lostClaim(store.compareAndSet(key, { event: "Queue", fence })), {
              fence,
              record
            })
            assert.deepStrictEqual(yield* lostClaim(store.renew(key, fence, longLease)), { fence, record })
          }
          assert.deepStrictEqual(yield* store.read(key), record)
        }))

      it.effect("a holder that returns after others reset and ran the query writes nothing", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const { version: fence } = yield* driveTo(key, "Executing", { holder: "A", lease: longLease })
          for (const event of ["Cancel", "Reset", "FinishReset", "Queue"] as const) {
            yield* store.compareAndSet(key, { event })
          }
          const { record } = yield* store.compareAndSet(key, { event: "Execute", holder: "B", lease: longLease })
          for (const event of ["Finish", "Error", "Cancel"] as const) {
            assert.deepStrictEqual(yield* lostClaim(store.compareAndSet(key, { event, fence })), { fence, record })
          }
          assert.deepStrictEqual(yield* store.read(key), record)
        }))

      it.effect.each(pendingTags.map((tag) => ({ tag })))(
        "renewing the lease on a query that is $tag changes only its end",
        ({ tag }) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const before = yield* driveTo(key, tag, { holder: "worker 1", lease: renewableLease })
            const renewed = yield* store.renew(key, before.version, longLease)
            const { expiresAt, ...claim } = claimIn(renewed)
            if (expiresAt === undefined) return assert.fail("a renewed claim has a lease")
            assert.isAtLeast(DateTime.toEpochMillis(expiresAt), DateTime.toEpochMillis(leaseEnd(before, longLease)))
            assert.deepStrictEqual(claim, { fence: before.version, holder: "worker 1" })
            assert.deepStrictEqual(renewed, {
              ...before,
              state: QueryState.make(tag, { claim: { ...claim, expiresAt } })
            })
            yield* outlast(renewableLease)
            assert.deepStrictEqual(yield* store.read(key), renewed)
          })
      )

      it.effect("a renewal gives a lease to a claim without one", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const { version } = yield* driveTo(key, "Executing", { holder: "worker 1" })
          yield* store.renew(key, version, shortLease)
          yield* outlast(shortLease)
          assert.deepStrictEqual(
            (yield* store.read(key)).state,
            QueryState.make("Errored", { reason: Reason.leaseExpired("worker 1") })
          )
        }))

      it.effect.each(states)(
        "a renewal on a query that is $tag fails when the fence is stale or there is no claim",
        ({ tag }) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            const key = yield* freshKey
            const record = yield* driveTo(key, tag, { lease: longLease })
            const stale = [record.version - 1, record.version + 1]
            for (const fence of isPending(tag) ? stale : [...stale, record.version]) {
              assert.deepStrictEqual(yield* lostClaim(store.renew(key, fence, shortLease)), { fence, record })
            }
            assert.deepStrictEqual(yield* store.read(key), record)
          })
      )

      const settling: ReadonlyArray<{
        readonly operation: string
        readonly settle: (
          store: RedisStore.RedisStore["Service"],
          key: QueryKey.QueryKey,
          fence: number
        ) => Effect.Effect<QueryRecord.QueryRecord, unknown>
      }> = [
        { operation: "read", settle: (store, key) => store.read(key) },
        {
          operation: "readMany",
          settle: (store, key) => Effect.flatMap(store.readMany([key]), first)
        },
        {
          operation: "a refused compareAndSet",
          settle: (store, key) => Effect.map(store.compareAndSet(key, { event: "Queue" }), ({ record }) => record)
        },
        {
          operation: "the compareAndSet of the late holder",
          settle: (store, key, fence) =>
            Effect.map(lostClaim(store.compareAndSet(key, { event: "Finish", fence })), ({ record }) => record)
        },
        {
          operation: "compareAndSetMany",
          settle: (store, key) =>
            store.compareAndSetMany([[key, { event: "Queue" }]]).pipe(
              Effect.flatMap(first),
              Effect.map(({ record }) => record)
            )
        },
        {
          operation: "renew",
          settle: (store, key, fence) =>
            Effect.map(lostClaim(store.renew(key, fence, longLease)), ({ record }) => record)
        }
      ]

      it.effect.each(
        settling.flatMap(({ operation, settle }) => lapsingTags.map((tag) => ({ operation, settle, tag })))
      )(
        "a lapsed lease on a query that is $tag is settled by $operation",
        ({ settle, tag }) =>
          Effect.gen(function*() {
            const store = yield* RedisStore.RedisStore
            for (const holder of ["worker 1", undefined]) {
              const key = yield* freshKey
              const before = yield* driveTo(key, tag, { holder, lease: shortLease })
              yield* outlast(shortLease)
              const record = yield* settle(store, key, before.version)
              moved(before, { record, changed: true }, lapsed(tag, holder))
              assert.deepStrictEqual(yield* store.read(key), record)
            }
          })
      )

      it.effect("an event that a lapse makes legal is accepted at once", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const before = yield* driveTo(key, "Executing", { holder: "worker 1", lease: shortLease })
          yield* outlast(shortLease)
          moved(before, yield* store.compareAndSet(key, { event: "Reset" }), QueryState.make("Resetting"))
        }))

      it.effect("an event that a lapse makes illegal is refused, Cancel included", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const before = yield* driveTo(key, "Queued", { holder: "worker 1", lease: shortLease })
          yield* outlast(shortLease)
          const { changed, record } = yield* store.compareAndSet(key, { event: "Cancel", reason: Reason.requested() })
          assert.strictEqual(changed, false)
          moved(
            before,
            { record, changed: true },
            QueryState.make("Cancelled", { reason: Reason.leaseExpired("worker 1") })
          )
        }))

      it.effect("many commands are answered in their order, each with its own result", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const [won, refused, lost, invalid] = yield* Effect.all([freshKey, freshKey, freshKey, freshKey])
          const claimed = yield* driveTo(lost, "Executing", { lease: longLease })
          const fence = claimed.version - 1
          const results = yield* store.compareAndSetMany([
            [lost, { event: "Finish", fence }],
            [invalid, { event: "Queue", holder: "" }],
            [won, { event: "Queue" }],
            [refused, { event: "Finish" }],
            [lost, { event: "Finish" }],
            [won, { event: "Reset", fence: Number.NaN }]
          ])
          const record = yield* store.read(won)
          assert.deepStrictEqual(
            results.map((result): Result.Result<RedisStore.CommandResult, unknown> =>
              Result.mapError(result, errorFields)
            ),
            [
              Result.fail({ _tag: "LeaseLost", fence, record: claimed }),
              Result.fail({ _tag: "InvalidInput", operation: "Queue", key: invalid }),
              Result.succeed({ record, changed: true }),
              Result.succeed({ record: QueryRecord.absent(refused), changed: false }),
              Result.succeed({ record: claimed, changed: false }),
              Result.fail({ _tag: "InvalidInput", operation: "Reset", key: won })
            ]
          )
          assert.deepStrictEqual(record.state, QueryState.make("Queued"))
          assert.deepStrictEqual(yield* store.readMany([invalid, won, refused, lost, won]), [
            Result.succeed(QueryRecord.absent(invalid)),
            Result.succeed(record),
            Result.succeed(QueryRecord.absent(refused)),
            Result.succeed(claimed),
            Result.succeed(record)
          ])
        }))

      it.effect("many commands can be any number, zero included", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          assert.deepStrictEqual(yield* store.readMany([]), [])
          assert.deepStrictEqual(yield* store.compareAndSetMany([]), [])

          const keys = yield* Effect.all(Array.from({ length: 1_200 }, () => freshKey))
          const answers = yield* store.compareAndSetMany(
            keys.map((key) => [key, { event: "Queue", holder: key.query }])
          )
          const records = yield* store.readMany(keys)
          assert.deepStrictEqual(answers, records.map(Result.map((record) => ({ record, changed: true }))))
          assert.deepStrictEqual(
            records.map(
              Result.map(({ key, state }) => ({ key, holder: state._tag === "Queued" && state.claim?.holder }))
            ),
            keys.map((key) => Result.succeed({ key, holder: key.query }))
          )
        }))

      it.effect.each<[what: string, options: Omit<RedisStore.Command, "event">]>([
        ["a lease of zero", { lease: 0 }],
        ["a negative lease", { lease: -1 }],
        ["an infinite lease", { lease: Duration.infinity }],
        ["an infinite number of milliseconds", { lease: Number.POSITIVE_INFINITY }],
        ["a lease that is not a number", { lease: Number.NaN }],
        ["an empty holder", { holder: "" }],
        ["a holder of 257 characters", { holder: "h".repeat(257) }],
        ["a holder with a lone surrogate", { holder: "worker \ud800" }],
        ["a fence with a fraction", { fence: 1.5 }],
        ["a fence that is not a number", { fence: Number.NaN }],
        ["an infinite fence", { fence: Number.POSITIVE_INFINITY }],
        ["a fence beyond the exact integers", { fence: 2 ** 53 }]
      ])("%s is invalid and writes nothing", ([, options]) =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const key = yield* freshKey
          const error = yield* Effect.flip(store.compareAndSet(key, { event: "Queue", ...options }))
          assert.deepStrictEqual(errorFields(error), { _tag: "InvalidInput", operation: "Queue", key })
          assert.deepStrictEqual(yield* store.read(key), QueryRecord.absent(key))

          const before = yield* driveTo(key, "Executing", { lease: longLease })
          const { fence = before.version, lease } = options
          if (lease === undefined && fence === before.version) return
          const renewal = yield* Effect.flip(store.renew(key, fence, lease ?? longLease))
          assert.deepStrictEqual(errorFields(renewal), { _tag: "InvalidInput", operation: "renew the lease on", key })
          assert.deepStrictEqual(yield* store.read(key), before)
        }))

      it.effect("a holder of any 256 characters is stored", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          for (const holder of ["h".repeat(256), "😀".repeat(128), "\u0000\u007f\"\\/\n", "-1", "0"]) {
            const key = yield* freshKey
            const { state, version } = yield* driveTo(key, "Queued", { holder, lease: shortLease })
            assert.deepStrictEqual(
              state,
              QueryState.make("Queued", { claim: { ...claimIn({ state }), fence: version, holder } })
            )
            yield* outlast(shortLease)
            assert.deepStrictEqual(
              (yield* store.read(key)).state,
              QueryState.make("Cancelled", { reason: Reason.leaseExpired(holder) })
            )
          }
        }))

      it.effect("queries with different ids do not affect each other", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const ids = String.raw`: a a: :a a:a { } {a} a}:{a % %3A %253A + * ? [a] \0 é 😀 😀😀 __proto__ constructor A`
            .split(" ")
          ids.push(" ", "  ", "\u0000", "\n", "e\u0301", "x".repeat(512))
          const dbs = ids.filter((id) => !refusesDb(id))
          const keys = dbs.flatMap((db) => ids.map((query) => QueryKey.makeUnsafe({ db, query })))
          const tagOf = (index: number) => tags[index % tags.length] ?? "Known"
          const driven = yield* Effect.forEach(keys, (key, index) => driveTo(key, tagOf(index)), { concurrency: 50 })
          assert.deepStrictEqual(
            driven.map(({ key, state }) => ({ key, state })),
            keys.map((key, index) => ({ key, state: QueryState.make(tagOf(index)) }))
          )
          assert.deepStrictEqual(yield* store.readMany(keys), driven.map((record) => Result.succeed(record)))
        }))

      it.effect("each database that has a record is found, and once however many it has", () =>
        Effect.gen(function*() {
          const store = yield* RedisStore.RedisStore
          const own = `${(yield* freshKey).query} ${randomUUID()}`
          const dbs = ["", ":", "*", "?", "[a]", "}:{", "%3A", " é 😀", "\n"].map((end) => `${own}${end}`)
            .filter((db) => !refusesDb(db))
          const keysIn = (db: string) => ["a", "b", "c:d"].map((query) => QueryKey.makeUnsafe({ db, query }))
          yield* Effect.forEach(dbs.flatMap(keysIn), (key) => driveTo(key, "Completed"))
          yield* Effect.forEach(keysIn(`${own} only read`), store.read)
          const found = yield* Stream.runCollect(store.databases)
          assert.deepStrictEqual(found.filter((db) => db.startsWith(own)).toSorted(), dbs.toSorted())
          assert.strictEqual(found.length, new Set(found).size)
        }))
    }
  )
}

const first = <A, E>(results: ReadonlyArray<Result.Result<A, E>>): Effect.Effect<A, E | string> => {
  const [result] = results
  return result === undefined ? Effect.fail("nothing was answered") : Effect.fromResult(result)
}

const claimIn = ({ state }: Pick<QueryRecord.QueryRecord, "state">): QueryState.Claim => {
  if (!("claim" in state) || state.claim === undefined) throw new Error(`expected a claim in ${state._tag}`)
  return state.claim
}

const leaseEnd = ({ changedAt }: QueryRecord.QueryRecord, lease: Duration.Duration): DateTime.Utc =>
  DateTime.addDuration(changedAt ?? DateTime.makeUnsafe(0), lease)
