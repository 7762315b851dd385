/** The clock of the server, as far as it is known here. */
import * as DateTime from "effect/DateTime"

/**
 * Remembers how far the clock of the server is ahead of the time that this process has run, so that a wrong clock of
 * this machine changes nothing. It errs by no more than the time an answer was on its way.
 */
export class ServerClock {
  private aheadMillis: number | undefined

  /** The newest time that the server told, in microseconds: no later than now, and no earlier than what it told with it. */
  lastMicros = 0

  set(serverMicros: number): void {
    this.lastMicros = serverMicros
    this.aheadMillis = serverMicros / 1000 - performance.now()
  }

  now(): DateTime.Utc {
    return DateTime.makeUnsafe((this.aheadMillis ?? performance.timeOrigin) + performance.now())
  }
}
