/** Waiting until replicas have the written records: WAIT, right behind the scripts that write. */
import type { Redis } from "ioredis"
import { NotReplicated } from "../../../services/RedisStoreError.ts"
import type { Replicas } from "./options.ts"

/**
 * The WAITs for the replicas of one server, on the connection that sends the scripts.
 *
 * While a WAIT is under way, Redis runs no other command of its connection. So scripts share WAITs: scripts that are sent
 * together share one, and scripts that are sent during a WAIT share the next. A script is delayed by at most one WAIT of
 * others and by its own. The number of WAITs in a second depends on the round trip to the replicas, and not on the number of
 * transitions.
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

  /** Passes on the reply of a script that was just sent, once replicas have its change; else it rejects with `NotReplicated`. */
  await(
    reply: Promise<unknown>,
    isChanged: (reply: unknown) => boolean
  ): Promise<unknown> {
    const { replicated } = this
    replicated.catch(ignore)
    return reply.then((reply) => {
      if (!isChanged(reply)) return reply
      return replicated.then((acknowledged) => {
        if (acknowledged >= this.replicas.count) return reply
        throw new NotReplicated({ wanted: this.replicas.count, acknowledged })
      })
    })
  }

  /**
   * How many replicas have everything that was sent so far. This fails if the connection breaks, for callers of the next WAIT
   * as well: a WAIT on another connection does not cover the writes of this one.
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
