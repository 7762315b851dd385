import { RedisStoreMemory } from "effect-query-state"
import { suite } from "../support/changesConformance.ts"

suite("memory", RedisStoreMemory.layer, { excludeTestServices: false })
