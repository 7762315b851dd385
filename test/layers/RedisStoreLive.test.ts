import { Redacted } from "effect"
import { RedisStoreLive } from "effect-query-state"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { suite } from "../conformance/store.ts"

suite(
  "Redis",
  RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")), prefix: `conformance-${randomUUID()}` }),
  { time: "real" }
)
