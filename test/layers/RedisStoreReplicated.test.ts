import { Effect, Layer, Redacted } from "effect"
import { RedisStoreLive } from "effect-query-state"
import { suite } from "../conformance/store.ts"
import * as Replicated from "../support/Replicated.ts"

const ReplicatedLayer = Layer.unwrap(
  Effect.map(
    Replicated.acquire(),
    ({ primary }) => RedisStoreLive.layer({ url: Redacted.make(primary.server.url), replicas: { count: 1 } })
  )
)

suite("a Redis with replication", ReplicatedLayer, { time: "real" })
