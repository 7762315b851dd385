import { Effect } from "effect"
import type { TestProject } from "vitest/node"
import * as RedisServer from "./RedisServer.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** A server for the tests to share, so each test has to keep to keys of its own. */
    readonly redisUrl: string
  }
}

export default async (project: TestProject) => {
  const server = await Effect.runPromise(RedisServer.start())
  project.provide("redisUrl", server.url)
  return () => Effect.runPromise(server.stop)
}
