/** Servers that are not what a layer expects. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { type RedisStore, type RedisStoreError, RedisStoreLive } from "effect-query-state"
import * as FakeServers from "../support/FakeServers.ts"
import { errorFields } from "../support/queries.ts"
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
    const { address } = yield* FakeServers.answering("-DENIED Redis is running in protected mode because …\r\n")
    const error = yield* failureOf(layerAt(address))
    assert.strictEqual(error.reason._tag, "AccessDenied")
    assert.include(error.message, "set protected-mode to no")
  }))
