/** A plain client for what a test does to a server directly. */
import { Effect, type Scope } from "effect"
import { Redis } from "ioredis"

export const connect = (url: string): Effect.Effect<Redis, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = new Redis(url, { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 })
      // A server that a test stops is no news.
      client.on("error", () => {})
      return client
    }),
    (client) => Effect.sync(() => client.disconnect())
  )
