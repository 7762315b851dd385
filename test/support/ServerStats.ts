/** What a server knows of its subscribers. */
import { Effect } from "effect"
import type { Redis } from "ioredis"

/** How many connections are subscribed to each channel that has any. */
export const channels = (admin: Redis): Effect.Effect<ReadonlyMap<string, number>> =>
  Effect.promise(async () => {
    const names = await admin.pubsub("CHANNELS") as Array<string>
    const counts = await admin.pubsub("NUMSUB", ...names) as Array<string | number>
    return new Map(names.map((name) => [name, Number(counts[counts.indexOf(name) + 1])]))
  })

/** How many connections are in subscriber mode. */
export const connections = (admin: Redis): Effect.Effect<number> =>
  Effect.map(
    Effect.promise(() => admin.client("LIST", "TYPE", "PUBSUB")),
    (clients) => String(clients).split("\n").filter((line) => line !== "").length
  )

/** Waits until there are no subscriptions to channels or patterns. */
export const none = (admin: Redis): Effect.Effect<unknown> =>
  Effect.all([channels(admin), Effect.promise(() => admin.pubsub("NUMPAT"))]).pipe(
    Effect.repeat({ until: ([channels, patterns]) => channels.size === 0 && Number(patterns) === 0 })
  )

/** How many scripts have been run so far: reads and commands alike. */
export const scripts = (admin: Redis): Effect.Effect<number> =>
  Effect.map(
    Effect.promise(() => admin.info("commandstats")),
    (text) => Number(/^cmdstat_evalsha:calls=(\d+)/m.exec(text)?.[1] ?? 0)
  )
