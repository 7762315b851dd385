import { assert, it } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { RedisStore, type RedisStoreError, RedisStoreFlowMachine, RedisStoreLive } from "effect-query-state"
import type { Redis } from "ioredis"
import { expect, inject } from "vitest"
import * as RedisAdmin from "../support/RedisAdmin.ts"

type Make = (client: Redis) => Layer.Layer<RedisStore.RedisStore, RedisStoreError.RedisStoreError>

const history = { length: 100 }

const layouts: ReadonlyArray<readonly [layout: string, make: Make]> = [
  ["record", (client) => RedisStoreLive.layerClient(client)],
  ["recordWithHistory", (client) => RedisStoreLive.layerClient(client, { history })],
  ["flowMachine", (client) => RedisStoreFlowMachine.layerClient(client)],
  [
    "flowMachineResetFailed",
    (client) => RedisStoreFlowMachine.layerClient(client, { dialect: "reset-failed", history })
  ]
]

/** The scripts that a layer loads, in the order in which it loads them. */
const loadedBy = Effect.fnUntraced(function*(make: Make) {
  const client = yield* RedisAdmin.connect(inject("redisUrl"))
  // A script that is loaded before there is a connection is sent again, after the others.
  yield* Effect.promise(() => client.ping())
  const texts: Array<string> = []
  const script = client.script.bind(client)
  client.script = ((...args: Parameters<typeof script>) => {
    texts.push(String(args[1]))
    return script(...args)
  }) as typeof client.script
  yield* Effect.provide(RedisStore.RedisStore, make(client))
  return texts
}, Effect.scoped)

it.live.each(layouts)(
  "the scripts of the layout %s are those in test/layers/scripts, where a reviewer reads them (vitest -u writes them)",
  ([layout, make]) =>
    Effect.gen(function*() {
      const texts = yield* loadedBy(make)
      const names = ["claim", "conclude", "read", "renew"]
      assert.strictEqual(texts.length, names.length)
      for (const [index, name] of names.entries()) {
        yield* Effect.promise(() => expect(texts[index]).toMatchFileSnapshot(`scripts/${layout}/${name}.lua`))
      }
    })
)
