/** Why a server closes connections at once. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Redis, type RedisOptions } from "ioredis"

/** The messages of a server that closes a connection at once. */
const refusalIn = (text: string): Error | undefined => {
  const [, message] = /^-((?:DENIED|ERR max number of clients)[^\r\n]*)/.exec(text) ?? []
  return message === undefined ? undefined : Object.assign(new Error(message), { name: "ReplyError" })
}

/**
 * Calls `onRefusal` with the message of a server that closes the connection of a client at once.
 *
 * ioredis writes each command of its handshake by itself. If the server has closed the connection by then, the second write fails,
 * and Node gives the socket up before it reads the message. So the handshake leaves in one write.
 */
export const hearRefusal = (client: Redis, onRefusal: (refusal: Error) => void): void => {
  const onSocket = () => {
    const { stream } = client
    if (stream?.connecting !== true) return
    stream.cork()
    stream.once("connect", () => process.nextTick(() => stream.uncork()))
    stream.once("data", (data) => {
      const refusal = refusalIn(String(data))
      if (refusal !== undefined) onRefusal(refusal)
    })
  }
  // ioredis makes the socket right after this event.
  client.once("connecting", () => queueMicrotask(() => process.nextTick(onSocket)))
}

// A server that refuses a connection says so at once.
const longest = Duration.millis(250)

/**
 * Connects once more to a server, and returns why it closes the connection at once, if it does. A cluster of ioredis tells only
 * that its connections are closed.
 */
export const refusalOf = (server: RedisOptions): Effect.Effect<Error | undefined> =>
  Effect.callback<Error | undefined>((resume) => {
    const client = new Redis({ ...server, lazyConnect: true, retryStrategy: () => null, replyMapping: "legacy" })
    const end = (refusal?: Error) => resume(Effect.succeed(refusal))
    client.on("error", () => {})
    hearRefusal(client, end)
    client.connect().then(() => end(), () => end())
    return Effect.sync(() => client.disconnect())
  }).pipe(Effect.timeoutOrElse({ duration: longest, orElse: () => Effect.undefined }))
