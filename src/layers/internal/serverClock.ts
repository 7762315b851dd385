/** The clock of the server, as far as it is known here. */
import * as DateTime from "effect/DateTime"

/**
 * Remembers how far the clock of the server is ahead of the time that this process has run, so that a wrong clock of
 * this machine changes nothing. It errs by no more than the time an answer was on its way.
 */
export class ServerClock {
  private aheadMillis: number | undefined

  /** The newest time that the server told, in milliseconds: it was no later than now. */
  lastMillis = 0

  set(serverMillis: number): void {
    this.lastMillis = serverMillis
    this.aheadMillis = serverMillis - performance.now()
  }

  now(): DateTime.Utc {
    return DateTime.makeUnsafe((this.aheadMillis ?? performance.timeOrigin) + performance.now())
  }
}
