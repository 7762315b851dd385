/** What every store does, where the Redis is shared with FlowMachine. */
import { Effect, Layer, Redacted } from "effect"
import { RedisStoreFlowMachine } from "effect-query-state"
import * as Attempts from "../conformance/attempts.ts"
import * as Labels from "../conformance/labels.ts"
import * as Results from "../conformance/results.ts"
import { suite } from "../conformance/store.ts"
import * as TimeToLive from "../conformance/timeToLive.ts"
import * as RedisServer from "../support/RedisServer.ts"

// A server each: the names of FlowMachine's keys are what they are, and some tests use the same ids each time.
const storeOf = (dialect?: RedisStoreFlowMachine.Dialect) =>
  Layer.unwrap(
    Effect.map(RedisServer.acquire(), ({ url }) => RedisStoreFlowMachine.layer({ url: Redacted.make(url), dialect }))
  )

const refusesDb = (id: string) => id.includes(":")

suite("FlowMachine's Redis", storeOf(), { time: "real", refusesDb, without: "ResetFailed" })
Attempts.suite("FlowMachine's Redis", storeOf(), "real")
Labels.suite("FlowMachine's Redis", storeOf())
Results.refusals("FlowMachine's Redis", storeOf())
TimeToLive.refusals("FlowMachine's Redis", storeOf())

suite("FlowMachine's Redis, with eight states", storeOf("reset-failed"), { time: "real", refusesDb })
Attempts.suite("FlowMachine's Redis, with eight states", storeOf("reset-failed"), "real")
TimeToLive.refusals("FlowMachine's Redis, with eight states", storeOf("reset-failed"))
