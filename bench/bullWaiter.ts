/** A process that waits for a job of BullMQ on each order of `wakeUp`. */
import { setTimeout } from "node:timers/promises"
import * as Bull from "./bull.ts"

const [url = ""] = process.argv.slice(2)
const queue = Bull.queue(url)
const events = await Bull.events(url)

process.on("message", () => void wait())
process.send?.("ready")

const wait = async () => {
  const job = await queue.add("job", {})
  const finished = job.waitUntilFinished(events).then(() => process.hrtime.bigint())
  // oxlint-disable-next-line no-await-in-loop -- it polls until the job is active
  while (!(await job.isActive())) await setTimeout(1)
  process.send?.("active")
  process.send?.(`${await finished}`)
}
