/**
 * Sends the commands of one turn of the event loop in few writes to the socket, because a write takes longer than a command
 * (benchmark: transitions a second, 256 at a time, and `triggerMany` of 10,000).
 */
import type { Redis } from "ioredis"

// If hundreds of commands leave in one write, the server first waits for this process, and then this process for the server.
const largestBatch = 16

/** Makes the function that must be called before each command. */
export const make = (client: Redis): () => void => {
  let count = 0
  return () => {
    const { stream } = client
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
