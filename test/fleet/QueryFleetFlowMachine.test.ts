import { Effect, Layer, Redacted } from "effect"
import { RedisStoreFaults, RedisStoreFlowMachine } from "effect-query-state"
import { suite } from "../conformance/fleet.ts"
import * as RedisServer from "../support/RedisServer.ts"

suite(
  "FlowMachine's Redis",
  Layer.unwrap(Effect.map(RedisServer.acquire(), ({ url }) =>
    RedisStoreFaults.layer(
      RedisStoreFlowMachine.layer({ url: Redacted.make(url), dialect: "reset-failed" })
    ))),
  { refusesDb: (id) => id.includes(":") }
)
