import { Effect, Layer } from "effect"
import { RedisStoreLive } from "effect-query-state"
import * as Attempts from "../conformance/attempts.ts"
import * as Labels from "../conformance/labels.ts"
import * as Results from "../conformance/results.ts"
import { suite } from "../conformance/store.ts"
import * as TimeToLive from "../conformance/timeToLive.ts"
import * as RedisCluster from "../support/RedisCluster.ts"

const layer = (options?: RedisStoreLive.StoreOptions) =>
  Layer.unwrap(
    Effect.map(
      RedisCluster.acquire(),
      ({ primaries }) =>
        RedisStoreLive.layerCluster({
          nodes: primaries.map(({ server: { host, port } }) => ({ host, port })),
          ...options
        })
    )
  )

const ClusterLayer = layer()

suite("a cluster of Redis servers", ClusterLayer, { time: "real" })
Attempts.suite("a cluster of Redis servers", ClusterLayer, "real")
Labels.suite("a cluster of Redis servers", ClusterLayer)
Results.suite("a cluster of Redis servers", ClusterLayer, "real")
TimeToLive.suite("a cluster of Redis servers", layer(TimeToLive.options), "real")
