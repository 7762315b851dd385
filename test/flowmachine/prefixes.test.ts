/** Two layers with different prefixes on one Redis: neither knows what the other records beside FlowMachine's state. */
import { assert, it } from "@effect/vitest"
import { Context, DateTime, Effect, Layer, Redacted, Stream } from "effect"
import {
  QueryFleet,
  type QueryRecord,
  QueryState,
  QueryStateMachine,
  RedisStore,
  RedisStoreFlowMachine
} from "effect-query-state"
import { inject } from "vitest"
import { stateKey, withAdmin } from "../support/flowMachine.ts"
import { driveTo, errorFields, freshKey } from "../support/queries.ts"

const storeWith = (prefix: string) =>
  Effect.map(
    Layer.build(RedisStoreFlowMachine.layer({
      url: Redacted.make(inject("redisUrl")),
      prefix,
      history: { length: 10 }
    })),
    Context.get(RedisStore.RedisStore)
  )

/** The same record with a claim for another hour. */
const assertRenewed = (renewed: QueryRecord.QueryRecord, claimed: QueryRecord.QueryRecord) => {
  const [after, before] = [renewed, claimed].map(({ state }) => QueryState.claimOf(state)?.expiresAt)
  if (after === undefined || before === undefined) return assert.fail("there is no lease")
  assert.isTrue(DateTime.isGreaterThanOrEqualTo(after, before))
  assert.deepStrictEqual([renewed.version, renewed.state._tag], [claimed.version, claimed.state._tag])
}

it.live.each(["Queued", "Executing", "Resetting"] as const)(
  "a claim on a query that is %s survives every look by another prefix",
  (tag) =>
    Effect.gen(function*() {
      const key = yield* freshKey
      const [holder, reader] = yield* Effect.all([storeWith("holder"), storeWith("reader")])
      const claimed = yield* Effect.provideService(
        driveTo(key, tag, { holder: "worker 1", lease: "1 hour" }),
        RedisStore.RedisStore,
        holder
      )

      const looks = Effect.gen(function*() {
        const query = yield* QueryStateMachine.make(key)
        const fleet = yield* QueryFleet.make
        const read = yield* reader.read(key)
        assert.deepStrictEqual(read.state, QueryState.make(tag))
        assert.deepStrictEqual(yield* query.currentState, read.state)
        assert.deepStrictEqual(yield* query.record, read)
        const listed = yield* Stream.runCollect(fleet.list(key.db, { states: [tag] }))
        assert.deepStrictEqual(listed.filter((record) => record.key.query === key.query), [read])
        assert.strictEqual((yield* fleet.summary([key]))[tag], 1)
        assert.deepStrictEqual((yield* reader.history(key)).at(-1)?.to, tag)
        // No claim of its own: none of these is answered as made.
        for (const event of ["Queue", "FinishReset", "Finish"] as const) {
          const late = yield* Effect.flip(reader.compareAndSet(key, { event, fence: claimed.version }))
          assert.strictEqual(errorFields(late)["_tag"], "LeaseLost")
        }
      }).pipe(Effect.provideService(RedisStore.RedisStore, reader))
      yield* looks
      yield* looks

      assert.strictEqual(yield* withAdmin((admin) => admin.call("PEXPIRETIME", stateKey(key))), claimed.version)
      assert.deepStrictEqual(yield* holder.read(key), claimed)
      const renewed = yield* holder.renew(key, claimed.version, "1 hour")
      assertRenewed(renewed, claimed)
      yield* looks

      const event = ({ Queued: "Execute", Executing: "Finish", Resetting: "FinishReset" } as const)[tag]
      const { changed, record } = yield* holder.compareAndSet(key, { event, fence: claimed.version })
      assert.isTrue(changed)
      assert.strictEqual((yield* reader.read(key)).state._tag, record.state._tag)
    }).pipe(Effect.scoped)
)

it.live("a transition by another prefix ends a claim as one of FlowMachine does, and the holder gets LeaseLost", () =>
  Effect.gen(function*() {
    const key = yield* freshKey
    const [holder, other] = yield* Effect.all([storeWith("holder"), storeWith("reader")])
    const { version } = yield* Effect.provideService(
      driveTo(key, "Executing", { holder: "worker 1", lease: "1 hour" }),
      RedisStore.RedisStore,
      holder
    )
    assert.isTrue((yield* other.compareAndSet(key, { event: "Finish" })).changed)
    const lost = yield* Effect.flip(holder.compareAndSet(key, { event: "Finish", fence: version }))
    assert.deepStrictEqual(errorFields(lost), { _tag: "LeaseLost", fence: version, record: yield* holder.read(key) })
    assert.strictEqual((yield* holder.read(key)).state._tag, "Completed")
  }).pipe(Effect.scoped))
