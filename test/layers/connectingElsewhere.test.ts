/** Servers that are not what a layer expects. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { type RedisStore, type RedisStoreError, RedisStoreFlowMachine, RedisStoreLive } from "effect-query-state"
import * as FakeServers from "../support/FakeServers.ts"
import { errorFields } from "../support/queries.ts"
import * as RedisAdmin from "../support/RedisAdmin.ts"
import * as RedisServer from "../support/RedisServer.ts"

const failureOf = (layer: Layer.Layer<RedisStore.RedisStore, RedisStoreError.RedisStoreError>) =>
  Effect.flip(Effect.scoped(Layer.build(layer)))

const layerAt = (address: string) => RedisStoreLive.layer({ url: Redacted.make(`redis://${address}`) })

it.live("layer says of a node of a cluster that it takes layerCluster", () =>
  Effect.gen(function*() {
    const { host, port } = yield* RedisServer.acquire({ args: ["--cluster-enabled", "yes"] })
    const error = yield* failureOf(layerAt(`${host}:${port}`))
    assert.deepStrictEqual(errorFields(error), { _tag: "InvalidInput", operation: "prepare the store", key: undefined })
    assert.include(error.message, "the server is a node of a cluster: use RedisStoreLive.layerCluster")
  }))

it.live("layerCluster says of a single server that it takes layer", () =>
  Effect.gen(function*() {
    const { host, port } = yield* RedisServer.acquire()
    const error = yield* failureOf(RedisStoreLive.layerCluster({ nodes: [{ host, port }] }))
    assert.deepStrictEqual(errorFields(error), { _tag: "InvalidInput", operation: "connect", key: undefined })
    assert.include(error.message, "the server is no part of a cluster: use RedisStoreLive.layer")
  }))

it.live("layer says of a sentinel how it is named", () =>
  Effect.gen(function*() {
    const { host, port } = yield* RedisServer.acquire({ isSentinel: true })
    const error = yield* failureOf(layerAt(`${host}:${port}`))
    assert.strictEqual(error.reason._tag, "InvalidInput")
    assert.include(error.message, "the server is a sentinel: name it in `redis.sentinels`")
  }))

it.live("a server in protected mode denies access, and the setting is named", () =>
  Effect.gen(function*() {
    const { address } = yield* FakeServers.acquire((socket) =>
      socket.end("-DENIED Redis is running in protected mode because …\r\n")
    )
    const error = yield* failureOf(layerAt(address))
    assert.strictEqual(error.reason._tag, "AccessDenied")
    assert.include(error.message, "set protected-mode to no")
  }))

const layers: ReadonlyArray<
  readonly [
    name: string,
    layerOf: (
      server: RedisServer.RedisServer
    ) => Layer.Layer<RedisStore.RedisStore, RedisStoreError.RedisStoreError>
  ]
> = [
  ["RedisStoreLive.layer", ({ url }) => RedisStoreLive.layer({ url: Redacted.make(url) })],
  ["RedisStoreLive.layer with options", ({ host, port }) => RedisStoreLive.layer({ redis: { host, port, db: 2 } })],
  ["RedisStoreLive.layerCluster", (server) => RedisStoreLive.layerCluster({ nodes: [server] })],
  ["RedisStoreFlowMachine.layer", ({ url }) => RedisStoreFlowMachine.layer({ url: Redacted.make(url) })]
]

it.live.each(layers)(
  "%s says what to do where a server accepts no further connection",
  ([, layerOf]) =>
    Effect.gen(function*() {
      const server = yield* RedisServer.acquire({ args: ["--maxclients", "1"] })
      yield* RedisAdmin.connect(server.url)
      // A lost race of the message with what is sent would not show each time.
      const errors = yield* Effect.replicateEffect(failureOf(layerOf(server)), 20)
      for (const error of errors) {
        assert.deepStrictEqual(errorFields(error), { _tag: "Unavailable", operation: "connect", key: undefined })
        assert.include(error.message, "max number of clients reached: raise maxclients, or use fewer connections")
      }
    })
)
