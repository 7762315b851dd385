/** Waiting until replicas have what was written: WAIT, right behind the scripts that write. */
import * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import type { Redis } from "ioredis"
import { InvalidInput, NotReplicated } from "../../../services/RedisStoreError.ts"

/** How many replicas are to have what was written, and how long they are given. */
export interface Replicas {
  readonly count: number
  readonly timeoutMillis: number
}

const invalid = (issue: string) => Result.fail(new InvalidInput({ issue }))

/** Checks what was asked for, against the time that a command may take. */
export const check = (
  { count, timeout }: { readonly count: number; readonly timeout?: Duration.Input | undefined },
  commandTimeout: Duration.Duration
): Result.Result<Replicas, InvalidInput> => {
  // A command can stand behind the wait for another, and has its own before it.
  const longest = Duration.toMillis(commandTimeout) / 2
  const timeoutMillis = timeout === undefined
    ? Math.min(1000, longest)
    : Duration.toMillis(Duration.fromInputUnsafe(timeout))
  if (!Number.isSafeInteger(count) || count < 1) return invalid("replicas.count must be a whole number, and at least 1")
  return timeoutMillis > 0 && timeoutMillis <= longest
    ? Result.succeed({ count, timeoutMillis: Math.ceil(timeoutMillis) })
    : invalid("replicas.timeout must be longer than zero, and at most half of commandTimeout")
}

/**
 * The waits for the replicas of one server, on the connection over which it is sent scripts.
 *
 * While a WAIT is under way, Redis does nothing else for its connection. So no script has one of its own: those that are
 * sent together share one, and those that are sent during a WAIT share the next. However many there are, a script stands
 * behind one WAIT at most and has another before it; and it is the number of round trips to the replicas that bounds how
 * many waits there are in a second, not how many transitions.
 */
export class Acknowledgements {
  private readonly server: Pick<Redis, "wait">
  private readonly replicas: Replicas
  private underWay: Promise<unknown> | undefined
  private next: Promise<number> | undefined

  constructor(server: Pick<Redis, "wait">, replicas: Replicas) {
    this.server = server
    this.replicas = replicas
  }

  /** Takes the answer to come of a script that was sent just now, and gives it on once replicas have what it changed. */
  of(reply: Promise<unknown>, isChanged: (reply: unknown) => boolean): Promise<Result.Result<unknown, NotReplicated>> {
    const { acknowledged } = this
    acknowledged.catch(ignore)
    return reply.then((reply) => {
      if (!isChanged(reply)) return Result.succeed(reply)
      return acknowledged.then((acknowledged) =>
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
  private get acknowledged(): Promise<number> {
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
