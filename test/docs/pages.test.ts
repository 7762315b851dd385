import { assert, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import {
  QueryError,
  QueryEvent,
  QueryKey,
  QueryMetrics,
  QueryState,
  QueryStateMachine,
  RedisStoreError,
  RedisStoreMemory,
  Transition
} from "effect-query-state"
import { readFileSync } from "node:fs"
import { blocks, pages } from "../support/markdown.ts"

/** What stands in backticks in the first column of the tables of a page. */
const listedIn = (page: string) =>
  new Set(
    readFileSync(page, "utf8").split("\n")
      .filter((line) => line.startsWith("| `"))
      .flatMap((line) => Array.from((line.split("|")[1] ?? "").matchAll(/`(\w+)[^`]*`/g), ([, name]) => name))
  )

const missing = (page: string, names: Iterable<string>) => {
  const listed = listedIn(page)
  return Array.from(names).filter((name) => !listed.has(name))
}

const leavesOf = (metrics: object): ReadonlyArray<Metric.Metric<never, unknown>> =>
  Object.values(metrics).flatMap((one) => Metric.isMetric(one) ? [one] : leavesOf(one))

it.each(["README.md", "docs/concepts.md"])("the diagram of the lifecycle in %s is that of the table", (page) => {
  assert.deepStrictEqual(
    blocks(readFileSync(page, "utf8")).map(({ text }) => text).filter((text) => text.startsWith("stateDiagram")),
    [Transition.toMermaid()]
  )
})

it.effect("every member of a machine is in a table", () =>
  Effect.gen(function*() {
    const machine = yield* QueryStateMachine.make(QueryKey.makeUnsafe({ db: "d", query: "q" }))
    const members = Object.keys(machine).filter((name) => name !== "key")
    assert.deepStrictEqual(missing("docs/queries.md", members), [])
    assert.include(members, "waitUntilComplete")
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it("every error, and every reason of one, is in a table", () => {
  assert.deepStrictEqual(missing("docs/errors.md", Object.keys(QueryError)), [])
  assert.deepStrictEqual(
    missing("docs/errors.md", RedisStoreError.Failure.members.map(({ identifier }) => identifier.replace(/.*\//, ""))),
    []
  )
})

it.effect("every metric is in a table", () =>
  Effect.gen(function*() {
    const registry = new Map()
    for (const metrics of leavesOf(QueryMetrics)) {
      yield* Effect.provideService(Metric.value(metrics), Metric.MetricRegistry, registry)
    }
    const page = readFileSync("docs/observing.md", "utf8")
    const names = new Set(Array.from(registry.values(), ({ id }) => id))
    assert.strictEqual(names.size, Object.keys(QueryMetrics).length)
    assert.deepStrictEqual([...names].filter((name) => !page.includes(`| \`${name}\``)), [])
  }))

it("every state has its name in Redis in the text, and every event its name", () => {
  const text = pages.map((page) => readFileSync(page, "utf8")).join("\n")
  const names = [...Object.values(QueryState.wireNames), ...QueryEvent.all]
  assert.deepStrictEqual(names.filter((name) => !text.includes(`\`${name}\``) && !text.includes(`"${name}"`)), [])
})
