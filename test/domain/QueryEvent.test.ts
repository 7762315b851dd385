import { assert, it } from "@effect/vitest"
import { QueryEvent } from "effect-query-state"

it("there are these events and no others, each with its name in Redis", () => {
  assert.deepStrictEqual(QueryEvent.all.map((event) => [event, QueryEvent.wireNames[event]]), [
    ["Queue", "queue"],
    ["Execute", "execute"],
    ["Finish", "finish"],
    ["Error", "error"],
    ["Cancel", "cancel"],
    ["Reset", "reset"],
    ["FinishReset", "finish_resetting"]
  ])
})
