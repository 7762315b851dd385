import { RedisStoreFaults, RedisStoreMemory } from "effect-query-state"
import { suite } from "../conformance/fleet.ts"

suite("memory", RedisStoreFaults.layer(RedisStoreMemory.layer))
