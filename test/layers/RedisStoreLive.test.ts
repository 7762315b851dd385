import { Redacted } from "effect"
import { RedisStoreLive } from "effect-query-state"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import * as Attempts from "../conformance/attempts.ts"
import * as Labels from "../conformance/labels.ts"
import * as Results from "../conformance/results.ts"
import { suite } from "../conformance/store.ts"
import * as TimeToLive from "../conformance/timeToLive.ts"

const layer = (options?: RedisStoreLive.StoreOptions) =>
  RedisStoreLive.layer({ url: Redacted.make(inject("redisUrl")), prefix: `conformance-${randomUUID()}`, ...options })

suite("Redis", layer(), { time: "real" })
Attempts.suite("Redis", layer(), "real")
Labels.suite("Redis", layer())
Results.suite("Redis", layer(), "real")
TimeToLive.suite("Redis", layer(TimeToLive.options), "real")
