import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Result } from "effect"
import { Progress } from "effect-query-state"

describe("Progress", () => {
  it.each<[Progress.Input, string, number | undefined]>([
    [{ done: 3, total: 12, note: "joining" }, "3 of 12 (25 %): joining", 0.25],
    [{ done: 3, total: 12 }, "3 of 12 (25 %)", 0.25],
    [{ done: 999, total: 1_000 }, "999 of 1000 (99 %)", 0.999],
    [{ done: 29, total: 100 }, "29 of 100 (29 %)", 0.29],
    [{ done: 0.57, total: 1 }, "0.57 of 1 (57 %)", 0.57],
    [{ done: 13, total: 12 }, "13 of 13 (100 %)", 1],
    [{ done: 1, total: -1 }, "1 of 1 (100 %)", 1],
    [{ done: 1, total: Number.NaN }, "1", undefined],
    [{ done: 1, total: Number.POSITIVE_INFINITY, note: "rows" }, "1: rows", undefined],
    [{ done: 1_204, note: "rows read" }, "1204: rows read", undefined],
    [{ done: 0, total: 0 }, "0 of 0", undefined]
  ])("%j is shown as %s", (input, text, fraction) => {
    const progress = Result.getOrThrow(Progress.make(input))
    assert.strictEqual(Progress.format(progress), text)
    assert.strictEqual(Progress.fraction(progress), fraction)
  })

  it.each<Progress.Input>([
    { done: -1 },
    { done: Number.NaN },
    { done: Number.POSITIVE_INFINITY },
    { done: Number.NaN, total: Number.NaN },
    { done: -1, total: -2 }
  ])("%o is refused", (input) => {
    assert.isTrue(Result.isFailure(Progress.make(input)))
  })

  it("a note that is too long is cut and stays well-formed", () => {
    const note = `${"x".repeat(Progress.maxNoteLength - 2)}😀${"y".repeat(10)}`
    const { note: kept = "" } = Result.getOrThrow(Progress.make({ done: 1, note }))
    assert.isAtMost(kept.length, Progress.maxNoteLength)
    assert.isTrue(kept.endsWith("…") && kept.isWellFormed())
  })

  it.prop(
    "valid progress is unchanged, except negative zeros and totals below what is done",
    [Arbitrary.schema(Progress.Progress)],
    ([progress]) => {
      const { done, total } = progress
      const made = {
        ...progress,
        done: done + 0,
        ...(total === undefined ? undefined : { total: Math.max(total, done) + 0 })
      }
      assert.deepStrictEqual(Progress.make(progress), Result.succeed(made))
    }
  )
})
