import { assert, it } from "@effect/vitest"
import { DateTime, Result, Schema } from "effect"
import { QueryState, Reason } from "effect-query-state"

const claim: QueryState.Claim = { fence: 7, holder: "worker 1", expiresAt: DateTime.makeUnsafe(1_000) }
const reason = Reason.requested({ by: "ada" })

const states = [
  { tag: "Known", wireName: "known", isPending: false, carries: {} },
  { tag: "Queued", wireName: "queued", isPending: true, carries: { claim } },
  { tag: "Executing", wireName: "executing", isPending: true, carries: { claim } },
  { tag: "Completed", wireName: "completed", isPending: false, carries: {} },
  { tag: "Errored", wireName: "errored", isPending: false, carries: { reason } },
  { tag: "Cancelled", wireName: "cancelled", isPending: false, carries: { reason } },
  { tag: "Resetting", wireName: "resetting", isPending: true, carries: { claim } },
  { tag: "ResetFailed", wireName: "reset_failed", isPending: false, carries: { reason } }
] as const

it("these are all states", () => {
  assert.deepStrictEqual(QueryState.tags, states.map(({ tag }) => tag))
  assert.deepStrictEqual(QueryState.wireNames, Object.fromEntries(states.map(({ tag, wireName }) => [tag, wireName])))
})

it.each(states)("$tag is found by its name in Redis", ({ tag, wireName }) => {
  assert.strictEqual(QueryState.fromWireName(wireName), tag)
})

it.each(["", "Known", "KNOWN", " known", "known\n", "reset-failed", "__proto__", "constructor", "toString"])(
  "no state goes by the name %j in Redis",
  (name) => assert.isUndefined(QueryState.fromWireName(name))
)

it.each(states)("$tag has its own fields and leaves out others", ({ carries, tag }) => {
  assert.deepStrictEqual<object>(QueryState.make(tag, { claim, reason }), { _tag: tag, ...carries })
})

it.each(states)("$tag without fields is one constant, unclaimed and without a recorded reason", (state) => {
  const { carries, tag } = state
  const plain = QueryState.make(tag)
  assert.deepStrictEqual<object>(plain, { _tag: tag, ...("reason" in carries && { reason: Reason.unrecorded }) })
  assert.strictEqual(QueryState.make(tag, {}), plain)
  assert.strictEqual(QueryState.make(tag, { claim: undefined, reason: undefined }), plain)
})

it("Known and Completed are constants", () => {
  assert.strictEqual(QueryState.make("Known", { claim, reason }), QueryState.known)
  assert.strictEqual(QueryState.make("Completed", { claim, reason }), QueryState.completed)
})

it.each(states)("$tag is either pending or determinate, and claimed only when pending", ({ isPending, tag }) => {
  const state = QueryState.make(tag, { claim, reason })
  assert.strictEqual(QueryState.isPending(state), isPending)
  assert.strictEqual(QueryState.isDeterminate(state), !isPending)
  assert.deepStrictEqual(QueryState.claimOf(state), isPending ? claim : undefined)
  assert.isUndefined(QueryState.claimOf(QueryState.make(tag)))
})

it("every state is shown in words, with its reason", () => {
  assert.deepStrictEqual(states.map(({ tag }) => QueryState.format(QueryState.make(tag, { claim, reason }))), [
    "is known, but has not yet been run",
    "is queued",
    "is currently running",
    "is ready",
    "finished with an error (requested by ada)",
    "was cancelled (requested by ada)",
    "is being reset",
    "could not be reset (requested by ada)"
  ])
  assert.deepStrictEqual(
    states.map(({ tag }) => QueryState.format(QueryState.make(tag))),
    states.map(({ tag }) => QueryState.descriptions[tag])
  )
})

const codec = Schema.fromJsonString(Schema.toCodecJson(QueryState.QueryState))
const isEquivalent = Schema.toEquivalence(QueryState.QueryState)

it.prop("a state survives JSON", [QueryState.QueryState], ([state]) => {
  const back = Schema.decodeSync(codec)(Schema.encodeSync(codec)(state))
  assert.isTrue(isEquivalent(back, state))
}, { arbitrary: { runs: 300 } })

it.each([
  ["no state", null],
  ["a name alone", "Known"],
  ["an unknown state", { _tag: "Paused" }],
  ["a state by its name in Redis", { _tag: "known" }],
  ["a failure without a reason", { _tag: "Errored" }],
  ["a failure with an unknown reason", { _tag: "Errored", reason: { _tag: "Moonlight" } }],
  ["a claim without a fence", { _tag: "Queued", claim: { holder: "worker 1" } }],
  ["a fence with a fraction", { _tag: "Queued", claim: { fence: 1.5 } }]
])("%s is not decoded", (_what, input) => {
  assert.isTrue(Result.isFailure(Schema.decodeUnknownResult(QueryState.QueryState)(input)))
})
