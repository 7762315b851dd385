import { Effect, Option } from "effect"
import type { TestProject } from "vitest/node"
import * as PythonBinary from "./PythonBinary.ts"
import * as RedisServer from "./RedisServer.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** A server that all tests share, so each test uses fresh keys. */
    readonly redisUrl: string
    /** A Python with a client for Redis; empty if there is none. */
    readonly python: string
  }
}

export default async (project: TestProject) => {
  const server = await Effect.runPromise(RedisServer.start())
  project.provide("redisUrl", server.url)
  project.provide("python", Option.getOrElse(await Effect.runPromise(PythonBinary.resolve), () => ""))
  return () => Effect.runPromise(server.stop)
}
