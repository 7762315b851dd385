/** The clocks of the servers, as this process knows them. */
import * as DateTime from "effect/DateTime"

/**
 * The clock of a server: its last known time, plus the monotonic time of this process since then. So the wall clock of this
 * machine does not matter. The error is at most the time that the reply was on its way.
 */
export class ServerClock {
  private readMicros = 0
  private readAtMillis = 0

  set(serverMicros: number): void {
    this.readMicros = serverMicros
    this.readAtMillis = performance.now()
  }

  now(): DateTime.Utc {
    return DateTime.makeUnsafe(this.nowMicros() / 1000)
  }

  nowMicros(): number {
    return Math.floor(this.readMicros + this.sinceReadMillis * 1000)
  }

  /**
   * A time in microseconds that the server has certainly reached, because no clock is wrong by one per cent. It is not earlier
   * than the version of any record that the server has returned.
   */
  reachedMicros(): number {
    return Math.floor(this.readMicros + this.sinceReadMillis * 990)
  }

  private get sinceReadMillis(): number {
    return performance.now() - this.readAtMillis
  }
}
