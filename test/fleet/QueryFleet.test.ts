import { RedisStoreFaults, RedisStoreMemory } from "effect-query-state"
import { suite } from "../support/fleetConformance.ts"

suite("memory", RedisStoreFaults.layer(RedisStoreMemory.layer))
