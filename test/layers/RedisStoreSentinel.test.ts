import { Effect, Layer } from "effect"
import { RedisStoreLive } from "effect-query-state"
import * as RedisSentinel from "../support/RedisSentinel.ts"
import { suite } from "../support/storeConformance.ts"

const SentinelLayer = Layer.unwrap(
  Effect.map(
    RedisSentinel.acquire(),
    ({ addresses, name }) => RedisStoreLive.layer({ redis: { sentinels: [...addresses], name } })
  )
)

suite("a Redis behind sentinels", SentinelLayer, { time: "real" })
