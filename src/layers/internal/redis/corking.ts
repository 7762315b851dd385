/** Lets commands that are sent in one turn of the event loop leave in few writes: a write takes longer than a command. */
import type { Redis } from "ioredis"

// With all of some hundred in one write the server would wait for us, and then we for the server.
const largestBatch = 16

/** Makes what is to be called before each command. */
export const make = (client: Redis): () => void => {
  let count = 0
  return () => {
    const stream: Redis["stream"] | undefined = client.stream
    // A client that has not connected yet has none.
    if (stream === undefined) return
    if (stream.writableCorked === 0) {
      count = 0
      stream.cork()
      process.nextTick(() => stream.uncork())
    } else if (++count % largestBatch === 0) {
      stream.uncork()
      stream.cork()
    }
  }
}
