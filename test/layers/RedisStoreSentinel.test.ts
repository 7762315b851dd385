import { Effect, Layer } from "effect"
import { RedisStoreLive } from "effect-query-state"
import { suite } from "../conformance/store.ts"
import * as RedisSentinel from "../support/RedisSentinel.ts"

const SentinelLayer = Layer.unwrap(
  Effect.map(
    RedisSentinel.acquire(),
    ({ addresses, name }) => RedisStoreLive.layer({ redis: { sentinels: [...addresses], name } })
  )
)

suite("a Redis behind sentinels", SentinelLayer, { time: "real" })
