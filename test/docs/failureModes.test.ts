import { assert, it } from "@effect/vitest"
import { readFileSync } from "node:fs"

/** A row a mode: its number, and what stands in the column of tests. */
const rows = Array.from(
  readFileSync("docs/failure-modes.md", "utf8").matchAll(/^\| (\d+) +\|[^|]*\|([^|]*)\|/gm),
  ([, number, tests = ""]): [number: number, tests: string] => [Number(number), tests]
)

it("each failure mode is there once, in order, and none of the first 25 is missing", () => {
  const numbers = rows.map(([number]) => number)
  assert.deepStrictEqual(numbers.slice(0, 25), Array.from({ length: 25 }, (_, index) => index + 1))
  assert.deepStrictEqual(numbers, Array.from(new Set(numbers)).toSorted((a, b) => a - b))
})

it.each(rows)("every test of mode %i exists", (_, tests) => {
  const named = Array.from(tests.matchAll(/`([^`]+)`|"([^"]+)"/g))
  let source: string | undefined
  let count = 0
  for (const [, file, name] of named) {
    if (file !== undefined) source = readFileSync(`test/${file}`, "utf8")
    if (name === undefined) continue
    assert.include(source, name)
    count += 1
  }
  assert.isAtLeast(count, 1)
})
