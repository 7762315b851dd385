import { Effect, Layer } from "effect"
import { RedisStoreLive } from "effect-query-state"
import { suite } from "../conformance/store.ts"
import * as RedisCluster from "../support/RedisCluster.ts"

const ClusterLayer = Layer.unwrap(
  Effect.map(
    RedisCluster.acquire(),
    ({ primaries }) =>
      RedisStoreLive.layerCluster({ nodes: primaries.map(({ server: { host, port } }) => ({ host, port })) })
  )
)

suite("a cluster of Redis servers", ClusterLayer, { time: "real" })
