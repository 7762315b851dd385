import { Effect, Layer, Redacted } from "effect"
import { RedisStoreFlowMachine } from "effect-query-state"
import { suite } from "../conformance/changes.ts"
import * as RedisServer from "../support/RedisServer.ts"

suite(
  "FlowMachine's Redis",
  Layer.unwrap(
    Effect.map(RedisServer.acquire(), ({ url }) => RedisStoreFlowMachine.layer({ url: Redacted.make(url) }))
  ),
  { excludeTestServices: true, announcesAll: false }
)
