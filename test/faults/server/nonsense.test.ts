/** A server that answers what Redis never does. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted, Stream } from "effect"
import { RedisStore, RedisStoreLive } from "effect-query-state"
import * as Net from "node:net"
import * as FakeServers from "../../support/FakeServers.ts"
import { errorFields, freshKey } from "../../support/queries.ts"
import * as RedisServer from "../../support/RedisServer.ts"

/** Forwards to Redis, and answers one command by itself. */
const answering = (command: string, answer: () => string) =>
  Effect.gen(function*() {
    const { host, port } = yield* RedisServer.acquire()
    return yield* FakeServers.acquire((client) => {
      const server = Net.connect({ host, port })
      client.on("data", (data) => {
        if (new RegExp(`\\r\\n${command}\\r\\n`, "i").test(data.toString("latin1"))) client.write(answer())
        else server.write(data)
      }).on("close", () => server.destroy())
      server.pipe(client)
      server.on("error", () => {})
    })
  })

const storeAt = (address: string) =>
  RedisStoreLive.layer({ url: Redacted.make(`redis://${address}`), commandTimeout: "1 second" })

it.live.each<[what: string, answer: string]>([
  ["null", "_\r\n"],
  ["a number", ":1\r\n"],
  ["an empty list", "*0\r\n"],
  ["no times", "*2\r\n+a\r\n+b\r\n"],
  ["a time beyond all times", "*2\r\n$5\r\n1e300\r\n$1\r\n0\r\n"],
  ["nulls", "*2\r\n_\r\n_\r\n"]
])("a server whose time is %s is an UnexpectedReply", ([, answer]) =>
  Effect.gen(function*() {
    const { address } = yield* answering("time", () => answer)
    const error = yield* Effect.flip(Effect.provide(RedisStore.RedisStore, storeAt(address)))
    assert.deepStrictEqual(errorFields(error), {
      _tag: "UnexpectedReply",
      operation: "prepare the store",
      key: undefined
    })
  }).pipe(Effect.scoped))

let cursor = 0

it.live.each<[what: string, answer: () => string]>([
  ["null", () => "_\r\n"],
  ["a number", () => ":1\r\n"],
  ["an empty list", () => "*0\r\n"],
  ["keys that are no texts", () => "*2\r\n$1\r\n0\r\n*2\r\n:1\r\n_\r\n"],
  ["keys that are no list", () => "*2\r\n$1\r\n0\r\n$1\r\na\r\n"],
  ["the same cursor for ever", () => "*2\r\n$1\r\n7\r\n*0\r\n"],
  ["a few cursors for ever", () => `*2\r\n$1\r\n${1 + cursor++ % 5}\r\n*0\r\n`]
])("a server that answers a scan by %s is an UnexpectedReply", ([, answer]) =>
  Effect.gen(function*() {
    const { address } = yield* answering("scan", answer)
    const { db } = yield* freshKey
    const error = yield* RedisStore.RedisStore.use((store) => Effect.flip(Stream.runDrain(store.keys(db)))).pipe(
      Effect.provide(storeAt(address))
    )
    assert.strictEqual(error._tag === "RedisStoreError" && error.reason._tag, "UnexpectedReply")
  }).pipe(Effect.scoped))
