import { assert, it } from "@effect/vitest"
import { Cause, Schema } from "effect"
import { Reason } from "effect-query-state"

const codec = Schema.fromJsonString(Schema.toCodecJson(Reason.Reason))
const isReason = Schema.is(Reason.Reason)
const isEquivalent = Schema.toEquivalence(Reason.Reason)

const { maxLength } = Reason

/** Longer than anything that is recorded; its emoji take two code units each, from an even or an odd offset on. */
const long = (offset: string) => offset + "😀".repeat(maxLength.detail)

it.prop("a reason survives JSON", [Reason.Reason], ([reason]) => {
  assert.isTrue(isEquivalent(Schema.decodeSync(codec)(Schema.encodeSync(codec)(reason)), reason))
}, { arbitrary: { runs: 300 } })

it("missing fields are left out", () => {
  assert.deepStrictEqual<ReadonlyArray<object>>([
    Reason.failed({ error: "SqlError", message: "deadlock" }),
    Reason.failed({ error: "SqlError", message: "deadlock", detail: undefined }),
    Reason.requested(),
    Reason.requested({ by: undefined, note: undefined }),
    Reason.leaseExpired(),
    Reason.leaseExpired(undefined)
  ], [
    { _tag: "Failed", error: "SqlError", message: "deadlock" },
    { _tag: "Failed", error: "SqlError", message: "deadlock" },
    { _tag: "Requested" },
    { _tag: "Requested" },
    { _tag: "LeaseExpired" },
    { _tag: "LeaseExpired" }
  ])
})

it("texts of the largest size are unchanged", () => {
  const name = "n".repeat(maxLength.name)
  const message = "m".repeat(maxLength.message)
  const detail = "d".repeat(maxLength.detail)
  assert.deepStrictEqual<ReadonlyArray<object>>([
    Reason.failed({ error: name, message, detail }),
    Reason.requested({ by: name, note: message })
  ], [
    { _tag: "Failed", error: name, message, detail },
    { _tag: "Requested", by: name, note: message }
  ])
})

it.each([{ offset: "" }, { offset: "x" }])(
  "longer texts are cut between two characters and end in an ellipsis (after '$offset')",
  ({ offset }) => {
    const text = long(offset)
    const texts = {
      ...Reason.failed({ error: text, message: text, detail: text }),
      ...Reason.requested({ by: text, note: text })
    }
    const sizes = {
      error: maxLength.name,
      message: maxLength.message,
      detail: maxLength.detail,
      by: maxLength.name,
      note: maxLength.message
    }
    for (const [field, size] of Object.entries(sizes)) {
      const cut = String(texts[field as keyof typeof texts])
      assert.strictEqual(cut.length, size)
      assert.isTrue(cut.isWellFormed())
      assert.match(cut, /^x?(😀)+\ufffd?…$/u)
    }
  }
)

class SqlError extends Schema.TaggedError<SqlError>()("SqlError", { message: Schema.String }) {}

const sqlError = new SqlError({ message: "deadlock" })

it.each<[what: string, cause: Cause.Cause<unknown>, error: string, message: string]>([
  ["a tagged error", Cause.fail(sqlError), "SqlError", "deadlock"],
  ["an error of a class", Cause.fail(new TypeError("not a function")), "TypeError", "not a function"],
  ["a plain tagged object", Cause.fail({ _tag: "NotFound" }), "NotFound", "[object Object]"],
  ["a text", Cause.fail("no rows"), "string", "no rows"],
  ["a defect", Cause.die(new RangeError("too deep")), "RangeError", "too deep"],
  ["a failure before a defect", Cause.combine(Cause.die("defect"), Cause.fail(sqlError)), "SqlError", "deadlock"],
  ["a failure and an interruption", Cause.combine(Cause.interrupt(1), Cause.fail(sqlError)), "SqlError", "deadlock"],
  ["a defect and an interruption", Cause.combine(Cause.interrupt(1), Cause.die("defect")), "string", "defect"],
  ["the first of two failures", Cause.combine(Cause.fail("first"), Cause.fail("second")), "string", "first"]
])("%s is recorded by its name, its message and its whole cause", (_what, cause, error, message) => {
  assert.deepStrictEqual(Reason.fromCause(cause), Reason.failed({ error, message, detail: Cause.pretty(cause) }))
})

it("an interruption alone is not a failure", () => {
  assert.deepStrictEqual(Reason.fromCause(Cause.interrupt(1)), Reason.interrupted)
  assert.deepStrictEqual(
    Reason.fromCause(Cause.combine(Cause.interrupt(1), Cause.interrupt(2))),
    Reason.interrupted
  )
})

it("an empty cause is recorded as a failure", () => {
  assert.strictEqual(Reason.fromCause(Cause.empty)._tag, "Failed")
})

const fails = (): never => {
  throw new Error("out of reach")
}

const revoked = Proxy.revocable({}, {})
revoked.revoke()

const cyclic = Object.assign(new Error("cyclic"), { cause: undefined as unknown })
cyclic.cause = cyclic

const strange: ReadonlyArray<readonly [what: string, error: unknown]> = [
  ["null", null],
  ["undefined", undefined],
  ["a symbol", Symbol("symbol")],
  ["a bigint", 1n],
  ["a function", () => {}],
  ["an object without a prototype", Object.create(null)],
  ["an object whose constructor is no function", { constructor: "none" }],
  ["an object whose constructor has a name that is no text", { constructor: { name: 5 } }],
  ["an object whose constructor cannot be read", Object.defineProperty({}, "constructor", { get: fails })],
  ["an object whose tag cannot be read", Object.defineProperty({}, "_tag", { get: fails })],
  ["an object whose toString throws", { toString: fails }],
  ["an object whose toString answers no text", { toString: () => ({}) }],
  ["an object whose toJSON throws", { toJSON: fails }],
  ["an error whose message cannot be read", Object.defineProperty(new Error("error"), "message", { get: fails })],
  ["an error whose stack cannot be read", Object.defineProperty(new Error("error"), "stack", { get: fails })],
  ["an error whose message is a number", Object.assign(new Error("error"), { message: 5 })],
  ["an error whose message is a symbol", Object.assign(new Error("error"), { message: Symbol("symbol") })],
  ["an error without a message", Object.assign(new Error("error"), { message: undefined })],
  ["an error that is its own cause", cyclic],
  ["a revoked proxy", revoked.proxy],
  ["a message with a lone surrogate", new Error("lone \ud800 surrogate")],
  ["an error with a name, a message and a stack of megabytes", new SqlError({ message: "m".repeat(5_000_000) })]
]

it.each(strange)("nothing is thrown for %s, and the reason fits", (_what, error) => {
  for (const cause of [Cause.fail(error), Cause.die(error)]) {
    const reason = Reason.fromCause(cause)
    assert.strictEqual(reason._tag, "Failed")
    assert.isTrue(isReason(reason))
    assert.isTrue(isEquivalent(Schema.decodeSync(codec)(Schema.encodeSync(codec)(reason)), reason))
  }
})

it("every reason is shown in words", () => {
  assert.deepStrictEqual(
    [
      Reason.failed({ error: "SqlError", message: "deadlock", detail: "at line 3" }),
      Reason.requested(),
      Reason.requested({ by: "ada" }),
      Reason.requested({ note: "wrong table" }),
      Reason.requested({ by: "ada", note: "wrong table" }),
      Reason.interrupted,
      Reason.leaseExpired(),
      Reason.leaseExpired("worker 1"),
      Reason.unrecorded
    ].map(Reason.format),
    [
      "SqlError: deadlock",
      "requested",
      "requested by ada",
      "requested: wrong table",
      "requested by ada: wrong table",
      "its fiber was interrupted",
      "the lease lapsed",
      "the lease of worker 1 lapsed",
      "no reason was recorded"
    ]
  )
})
