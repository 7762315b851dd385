import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { slotOf } from "../../src/layers/internal/redis/slot.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"

const parts = ["{", "}", "a", "é", "😀", "query-state:", "1"]

/** All texts of up to so many parts. */
const texts = (length: number): ReadonlyArray<string> =>
  length === 0 ? [""] : ["", ...parts.flatMap((part) => texts(length - 1).map((rest) => part + rest))]

it.live("the slot of a key is the one that Redis has for it", () =>
  Effect.gen(function*() {
    const { url } = yield* RedisServer.acquire({ args: ["--cluster-enabled", "yes"] })
    const admin = yield* RedisAdmin.connect(url)
    const keys = texts(4).filter((key) => key !== "")
    const slots = yield* Effect.promise(() => Promise.all(keys.map((key) => admin.cluster("KEYSLOT", key))))
    assert.deepStrictEqual(keys.map(slotOf), slots)
  }))
