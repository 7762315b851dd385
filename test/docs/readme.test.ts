import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import {
  QueryError,
  QueryEvent,
  QueryKey,
  QueryState,
  QueryStateMachine,
  RedisStoreError,
  RedisStoreMemory,
  Transition
} from "effect-query-state"
import { readFileSync } from "node:fs"
import { blocks } from "../support/markdown.ts"

const readme = readFileSync("README.md", "utf8")

/** What stands in backticks in the first column of the README's tables. */
const listed = new Set(
  readme.split("\n")
    .filter((line) => line.startsWith("| `"))
    .flatMap((line) => Array.from((line.split("|")[1] ?? "").matchAll(/`(\w+)[^`]*`/g), ([, name]) => name))
)

const missing = (names: Iterable<string>) => Array.from(names).filter((name) => !listed.has(name))

it("the diagram of the lifecycle is that of the table", () => {
  assert.deepStrictEqual(
    blocks(readme).filter(({ language }) => language === "mermaid").map(({ text }) => text),
    [Transition.toMermaid()]
  )
})

it.effect("every member of a machine is in a table", () =>
  Effect.gen(function*() {
    const machine = yield* QueryStateMachine.make(QueryKey.makeUnsafe({ db: "d", query: "q" }))
    assert.deepStrictEqual(missing(Object.keys(machine)), ["key"])
  }).pipe(Effect.provide(RedisStoreMemory.layer)))

it("every error, and every reason of one, is in a table", () => {
  assert.deepStrictEqual(missing(Object.keys(QueryError)), [])
  assert.deepStrictEqual(
    missing(RedisStoreError.Reason.members.map(({ identifier }) => identifier.replace(/.*\//, ""))),
    []
  )
})

it("every state and every event has its name in Redis, or its name in FlowMachine, in the text", () => {
  const names = [...Object.values(QueryState.wireNames), ...QueryEvent.all]
  assert.deepStrictEqual(names.filter((name) => !readme.includes(`\`${name}\``) && !readme.includes(`"${name}"`)), [])
})
