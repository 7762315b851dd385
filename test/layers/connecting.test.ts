import { assert, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Redacted, type Scope } from "effect"
import { RedisStoreLive } from "effect-query-state"
import { inject } from "vitest"
import * as FakeServers from "../support/FakeServers.ts"
import { errorFields } from "../support/queries.ts"

/** Far longer than any of these attempts takes. */
const never = Duration.hours(1)

/** Tries to connect, and answers why that failed. */
const refused = (url: string, connectTimeout: Duration.Input = never) =>
  Layer.build(RedisStoreLive.layer({ url: Redacted.make(url), connectTimeout })).pipe(Effect.scoped, Effect.flip)

const connectError = { operation: "connect", key: undefined }

it.live.each<[what: string, url: string, issue: string]>([
  ["no text", "", "Expected a valid URL string"],
  ["no URL", "localhost", "Expected a valid URL string"],
  ["no scheme", "localhost:6379", "the URL must start with redis:// or rediss://"],
  ["a scheme without a colon", "redis//localhost", "Expected a valid URL string"],
  ["another scheme", "http://localhost:6379", "the URL must start with redis:// or rediss://"],
  ["a file", "unix:///var/run/redis.sock", "the URL must start with redis:// or rediss://"],
  ["no host", "redis://", "the URL must name a host, as in redis://localhost:6379"],
  ["no host but a database", "redis:///0", "the URL must name a host, as in redis://localhost:6379"],
  ["a port beyond all ports", "redis://localhost:65536", "Expected a valid URL string"],
  ["a port that is no number", "redis://localhost:redis", "Expected a valid URL string"],
  ["a database by name", "redis://localhost/warehouse", "by its number, as in redis://localhost:6379/0"],
  ["a database below zero", "redis://localhost/-1", "by its number, as in redis://localhost:6379/0"],
  ["two databases", "redis://localhost/0/1", "by its number, as in redis://localhost:6379/0"],
  ["a password that is not percent-encoded", "redis://:100%@localhost", "percent-encoded"],
  ["a timeout of ioredis", "redis://localhost?connectTimeout=10", "the URL must have no query"],
  ["a database in the query", "redis://localhost?db=warehouse", "the URL must have no query"]
])("a URL with %s is refused before anything is opened", ([, url, issue]) =>
  Effect.gen(function*() {
    const error = yield* refused(url)
    assert.deepStrictEqual(errorFields(error), { _tag: "InvalidInput", ...connectError })
    assert.include(error.message, "Could not connect: invalid input: ")
    assert.include(error.message, issue)
  }))

it.live("options that ioredis refuses are invalid", () =>
  Effect.gen(function*() {
    const error = yield* Layer.build(RedisStoreLive.layer({ redis: { sentinels: [], name: "primary" } })).pipe(
      Effect.scoped,
      Effect.flip
    )
    assert.deepStrictEqual(errorFields(error), { _tag: "InvalidInput", ...connectError })
    assert.include(error.message, "Requires at least one sentinel")
  }))

it.live.each<[which: string, database: string]>([
  ["beyond those of the server", "99"],
  ["beyond all numbers", "99999999999999999999"]
])("a database %s is refused", ([, database]) =>
  Effect.gen(function*() {
    const error = yield* refused(`${inject("redisUrl")}/${database}`)
    assert.deepStrictEqual(errorFields(error), { _tag: "InvalidInput", ...connectError })
    assert.include(error.message, "database")
  }))

it.live("connecting to a closed port fails at once", () =>
  Effect.gen(function*() {
    const address = yield* FakeServers.nobody
    const error = yield* refused(`redis://${address}`)
    assert.deepStrictEqual(errorFields(error), { _tag: "ConnectionLost", ...connectError })
    assert.include(error.message, `ECONNREFUSED ${address}`)
  }))

it.live.each<[what: string, server: Effect.Effect<FakeServers.FakeServer, never, Scope.Scope>, reason: string]>([
  ["answers HTTP", FakeServers.answering("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), "UnexpectedReply"],
  ["greets like a mail server", FakeServers.acquire((socket) => socket.write("220 mail ready\r\n")), "UnexpectedReply"],
  ["refuses every command", FakeServers.answering("-ERR what?\r\n".repeat(3)), "UnexpectedReply"],
  ["answers an empty line", FakeServers.answering("\r\n"), "UnexpectedReply"],
  ["hangs up at once", FakeServers.acquire((socket) => socket.end()), "ConnectionLost"],
  ["hangs up at the first command", FakeServers.answering(""), "ConnectionLost"],
  ["resets the connection", FakeServers.acquire((socket) => socket.resetAndDestroy()), "ConnectionLost"]
])("a server that %s is not Redis and is asked once", ([, server, _tag]) =>
  Effect.gen(function*() {
    const { accepted, address } = yield* server
    const error = yield* refused(`redis://${address}`)
    assert.deepStrictEqual(errorFields(error), { _tag, ...connectError })
    assert.strictEqual(accepted(), 1)
  }))

it.live("connecting by rediss:// to a server without TLS fails", () =>
  Effect.gen(function*() {
    const { address } = yield* FakeServers.answering("HTTP/1.1 400 Bad Request\r\n\r\n")
    assert.deepStrictEqual(errorFields(yield* refused(`rediss://${address}`)), {
      _tag: "ConnectionLost",
      ...connectError
    })
  }))

it.live("connecting to a silent server fails after its timeout", () =>
  Effect.gen(function*() {
    const { accepted, address } = yield* FakeServers.frozen
    const connectTimeout = Duration.millis(250)
    const error = yield* Effect.timeout(
      refused(`redis://${address}`, connectTimeout),
      Duration.times(connectTimeout, 4)
    )
    assert.deepStrictEqual(errorFields(error), { _tag: "TimedOut", ...connectError })
    assert.include(error.message, "250 ms")
    assert.strictEqual(accepted(), 1)
  }))

it.live.each(["layer", "layerCluster"] as const)(
  "a %s that is interrupted while it connects is closed at once",
  (kind) =>
    Effect.gen(function*() {
      // Nothing listens there, so the client reconnects repeatedly.
      const address = { host: "127.0.0.1", port: 1 }
      const StoreLayer = kind === "layer"
        ? RedisStoreLive.layer({ redis: address })
        : RedisStoreLive.layerCluster({ nodes: [address] })
      const building = yield* Effect.forkChild(Effect.scoped(Layer.build(StoreLayer)), { startImmediately: true })
      yield* Fiber.interrupt(building)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(building)))
    })
)
