/** All notifications about the queries of a database, of which the tests read the first line: `<version> <state>`. */
import { Deferred, Effect, Exit, type Scope } from "effect"
import type { QueryKey } from "effect-query-state"
import { randomUUID } from "node:crypto"
import { redisKeyOf } from "./queries.ts"
import * as RedisAdmin from "./RedisAdmin.ts"

export interface Notification {
  readonly version: number
  /** By its wire name. */
  readonly state: string
}

export const parse = (message: string): Notification => {
  const [version, state = ""] = message.split("\n", 1).join().split(" ")
  return { version: Number(version), state }
}

export interface PublishedNotifications {
  /** The notifications of a query up to the moment of the call. */
  readonly of: (key: QueryKey.QueryKey) => Effect.Effect<ReadonlyArray<Notification>>
}

export const listen = Effect.fnUntraced(
  function*(
    redisUrl: string,
    db: QueryKey.QueryKey["db"]
  ): Effect.fn.Return<PublishedNotifications, never, Scope.Scope> {
    const subscriber = yield* RedisAdmin.connect(redisUrl)
    const publisher = yield* RedisAdmin.connect(redisUrl)
    const heard = new Map<string, Array<Notification>>()
    const marks = new Map<string, Deferred.Deferred<void>>()

    subscriber.on("pmessage", (_pattern, channel, message) => {
      heard.set(channel, [...heard.get(channel) ?? [], parse(message)])
      const mark = marks.get(channel)
      if (mark !== undefined) Deferred.doneUnsafe(mark, Exit.void)
    })
    yield* Effect.promise(() => subscriber.psubscribe(redisKeyOf({ db, query: "*" })))

    // What is published comes in order: when a last message is here, so are all before it.
    const everything = Effect.gen(function*() {
      const channel = redisKeyOf({ db, query: randomUUID() })
      const mark = yield* Deferred.make<void>()
      marks.set(channel, mark)
      yield* Effect.promise(() => publisher.publish(channel, "0 mark"))
      yield* Deferred.await(mark)
    })

    return { of: (key) => Effect.map(everything, () => heard.get(redisKeyOf(key)) ?? []) }
  }
)
