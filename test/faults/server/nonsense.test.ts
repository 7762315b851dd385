/** A server that answers what Redis never does. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted, Result, Schema, Stream } from "effect"
import { QueryStateMachine, RedisStore, RedisStoreError, RedisStoreLive } from "effect-query-state"
import * as Net from "node:net"
import * as Replies from "../../../src/layers/internal/redis/replies.ts"
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

const isStoreError = Schema.is(RedisStoreError.RedisStoreError)

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
    yield* Effect.gen(function*() {
      const store = yield* RedisStore.RedisStore
      for (const scan of [Stream.runDrain(store.keys(db)), Stream.runDrain(store.databases)]) {
        const error = yield* Effect.flip(scan)
        assert.strictEqual(error.reason._tag, "UnexpectedReply")
      }
    }).pipe(Effect.provide(storeAt(address)))
  }).pipe(Effect.scoped))

it("a scan ends in the end, though no cursor comes again", () => {
  const page = { cursor: "1", count: Replies.maxPages, seen: undefined }
  const scanned = Replies.scanned(page, ["2", []])
  assert.strictEqual(Result.isFailure(scanned) && scanned.failure._tag, "UnexpectedReply")
})

const text = (text: string) => `$${text.length}\r\n${text}\r\n`
const nulls = (count: number) => "$-1\r\n".repeat(count)
const now = ":1700000000000000\r\n"

it.live.each<[what: string, answer: string]>([
  ["null", "_\r\n"],
  ["a number", ":1\r\n"],
  ["an empty list", "*0\r\n"],
  ["too few fields", `*3\r\n:0\r\n${now}${nulls(1)}`],
  ["an outcome that there is not", `*11\r\n:99\r\n${now}${nulls(9)}`],
  ["an outcome that is null", `*11\r\n$-1\r\n${now}${nulls(9)}`],
  ["a time of 1e300", `*11\r\n:0\r\n${text("1e300")}${nulls(9)}`],
  ["a time that is null", `*11\r\n:0\r\n${nulls(10)}`],
  ["a negative time", `*11\r\n:0\r\n:-1\r\n${nulls(9)}`],
  ["a state that is a number", `*11\r\n:0\r\n${now}:1\r\n${text("5")}${nulls(7)}`],
  ["a holder that is a list", `*11\r\n:0\r\n${now}${text("queued")}${text("5")}${nulls(1)}*0\r\n${nulls(5)}`],
  ["a previous state that is a number", `*11\r\n:0\r\n${now}${text("queued")}${text("5")}${nulls(4)}:1\r\n${nulls(2)}`]
])(
  "a server that answers a script by %s is an UnexpectedReply to all, and ends a run",
  ([, answer]) =>
    Effect.gen(function*() {
      const { address } = yield* answering("evalsha", () => answer)
      const key = yield* freshKey
      yield* Effect.gen(function*() {
        const store = yield* RedisStore.RedisStore
        const query = yield* QueryStateMachine.make(key)
        const operations: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
          store.read(key),
          store.renew(key, 1, "1 minute"),
          store.history(key),
          store.compareAndSet(key, { event: "Queue" }),
          query.run({ execute: () => Effect.void, result: Effect.succeedSome(undefined) }),
          query.waitUntilComplete(),
          Stream.runDrain(query.changes)
        ]
        for (const operation of operations) {
          const error = yield* Effect.flip(operation)
          assert.strictEqual(isStoreError(error) && error.reason._tag, "UnexpectedReply")
        }
      }).pipe(Effect.provide(storeAt(address)))
    }).pipe(Effect.scoped)
)

it.live.each<[what: string, answer: string]>([
  ["null", "_\r\n"],
  ["a number", ":1\r\n"],
  ["entries that are texts", `*1\r\n${text("1-0")}`],
  ["entries without fields", `*1\r\n*1\r\n${text("1-0")}`],
  ["fields that are numbers", `*1\r\n*2\r\n${text("1-0")}*1\r\n:1\r\n`]
])("a server that answers a history by %s is an UnexpectedReply", ([, answer]) =>
  Effect.gen(function*() {
    const { address } = yield* answering("xrange", () => answer)
    const key = yield* freshKey
    const error = yield* RedisStore.RedisStore.use((store) => Effect.flip(store.history(key))).pipe(
      Effect.provide(storeAt(address))
    )
    assert.strictEqual(error._tag === "RedisStoreError" && error.reason._tag, "UnexpectedReply")
  }).pipe(Effect.scoped))
