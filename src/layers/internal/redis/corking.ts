/**
 * Lets commands that are sent in one turn of the event loop leave in few writes: a write takes longer than a command. The
 * rows "transitions a second, 256 at a time" and "`triggerMany` of 10,000" of the benchmark need that.
 */
import type { Redis } from "ioredis"

// With all of some hundred in one write the server would wait for us, and then we for the server.
const largestBatch = 16

/** Makes what is to be called before each command. */
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
