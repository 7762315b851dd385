import { RedisStoreMemory } from "effect-query-state"
import { suite } from "../conformance/changes.ts"

suite("memory", RedisStoreMemory.layer, { excludeTestServices: false })
