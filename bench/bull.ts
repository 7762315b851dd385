/**
 * BullMQ in the server of the benchmark. Its connections stay open until the process is killed: closing them waits for a
 * blocking command that ioredis 6 does not end.
 */
import { Queue, QueueEvents, Worker } from "bullmq"

const name = "bench"

const connectionTo = (url: string) => {
  const { hostname, port } = new URL(url)
  // BullMQ expects this mapping of replies.
  return { host: hostname, port: Number(port), maxRetriesPerRequest: null, replyMapping: "legacy" as const }
}

export const queue = (url: string): Queue => {
  const queue = new Queue(name, { connection: connectionTo(url) })
  queue.setMaxListeners(0)
  return queue
}

export const events = async (url: string): Promise<QueueEvents> => {
  const events = new QueueEvents(name, { connection: connectionTo(url) })
  events.setMaxListeners(0)
  await events.waitUntilReady()
  return events
}

export const worker = async (
  url: string,
  concurrency: number,
  process: (id: string) => Promise<unknown>
): Promise<void> => {
  const worker = new Worker(name, ({ id }) => process(`${id}`), { connection: connectionTo(url), concurrency })
  await worker.waitUntilReady()
}
