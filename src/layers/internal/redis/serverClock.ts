/** The clocks of the servers, as far as they are known here. */
import * as DateTime from "effect/DateTime"

/**
 * Remembers how far the clock of a server is ahead of the time that this process has run, so that a wrong clock of
 * this machine changes nothing. It errs by no more than the time a reply was on its way.
 */
export class ServerClock {
  private readMicros = 0
  private readAtMillis = 0

  set(serverMicros: number): void {
    this.readMicros = serverMicros
    this.readAtMillis = performance.now()
  }

  now(): DateTime.Utc {
    return DateTime.makeUnsafe(this.readMicros / 1000 + this.sinceReadMillis)
  }

  /**
   * A time in microseconds that the server has reached for certain, since no clock goes wrong by a hundredth. It is no
   * earlier than the version of any record that the server answered.
   */
  reachedMicros(): number {
    return Math.floor(this.readMicros + this.sinceReadMillis * 990)
  }

  private get sinceReadMillis(): number {
    return performance.now() - this.readAtMillis
  }
}
