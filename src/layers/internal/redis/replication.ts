/** Waiting until replicas have what was written: WAIT, right behind the scripts that write. */
import * as Result from "effect/Result"
import type { Redis } from "ioredis"
import { NotReplicated } from "../../../services/RedisStoreError.ts"
import type { Replicas } from "./options.ts"

/**
 * The waits for the replicas of one server, on the connection over which it is sent scripts.
 *
 * While a WAIT is under way, Redis does nothing else for its connection. So no script has one of its own: those that are
 * sent together share one, and those that are sent during a WAIT share the next. However many there are, a script stands
 * behind one WAIT at most and has another before it; and it is the number of round trips to the replicas that bounds how
 * many waits there are in a second, not how many transitions.
 */
export class Replication {
  private readonly server: Pick<Redis, "wait">
  private readonly replicas: Replicas
  private underWay: Promise<unknown> | undefined
  private next: Promise<number> | undefined

  constructor(server: Pick<Redis, "wait">, replicas: Replicas) {
    this.server = server
    this.replicas = replicas
  }

  /** Takes the reply to come of a script that was sent just now, and passes it on once replicas have what it changed. */
  await(
    reply: Promise<unknown>,
    isChanged: (reply: unknown) => boolean
  ): Promise<Result.Result<unknown, NotReplicated>> {
    const { replicated } = this
    replicated.catch(ignore)
    return reply.then((reply) => {
      if (!isChanged(reply)) return Result.succeed(reply)
      return replicated.then((acknowledged) =>
        acknowledged >= this.replicas.count
          ? Result.succeed(reply)
          : Result.fail(new NotReplicated({ wanted: this.replicas.count, acknowledged }))
      )
    })
  }

  /**
   * How many replicas have what was sent so far. Where the connection breaks this fails, for those who wait for the next
   * WAIT as well: on another connection that would know nothing of what they sent on this one.
   */
  private get replicated(): Promise<number> {
    return this.next ??= (this.underWay ?? Promise.resolve()).then(() => this.wait(), (error) => {
      this.next = undefined
      throw error
    })
  }

  private wait(): Promise<number> {
    this.next = undefined
    const wait = this.server.wait(this.replicas.count, this.replicas.timeoutMillis)
    const done = () => {
      if (this.underWay === wait) this.underWay = undefined
    }
    this.underWay = wait
    wait.then(done, done)
    return wait
  }
}

const ignore = (): void => {}
