/** The clock of the server, as far as it is known here. */
import * as DateTime from "effect/DateTime"

/**
 * Remembers how far the clock of the server is ahead of the time that this process has run, so that a wrong clock of
 * this machine changes nothing. It errs by no more than the time an answer was on its way.
 */
export class ServerClock {
  private toldMicros = 0
  private toldAtMillis = 0

  set(serverMicros: number): void {
    this.toldMicros = serverMicros
    this.toldAtMillis = performance.now()
  }

  now(): DateTime.Utc {
    return DateTime.makeUnsafe(this.toldMicros / 1000 + this.sinceToldMillis)
  }

  /**
   * A time in microseconds that the server has reached for certain, since no clock goes wrong by a hundredth. It is no
   * earlier than the version of any record that was told.
   */
  reachedMicros(): number {
    return Math.floor(this.toldMicros + this.sinceToldMillis * 990)
  }

  private get sinceToldMillis(): number {
    return performance.now() - this.toldAtMillis
  }
}
