import { assert, it } from "@effect/vitest"
import { Schema } from "effect"
import { Command } from "ioredis"
import { slotOf } from "../../src/layers/internal/redis/slot.ts"

const Keys = Schema.Array(Schema.Literals(["{", "}", "a", "é", "😀", "query-state:", "1", ""]))

it.prop("the slot of a key is the one that ioredis has for it", [Schema.String, Keys], ([text, parts]) => {
  for (const key of [text, parts.join(""), `query-state:{${text}:${parts.join("")}}`]) {
    if (key !== "") assert.strictEqual(slotOf(key), new Command("exists", [key]).getSlot())
  }
})
