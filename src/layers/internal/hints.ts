/** Hands the hints of a query to all who are interested in it, in this process. */
import * as Effect from "effect/Effect"

/** Holds the newest hint that one reader has not taken yet: however slow it is, it is one number. */
class Reader {
  private untaken: number | undefined
  private resume: ((effect: Effect.Effect<number>) => void) | undefined

  offer(version: number): void {
    const { resume } = this
    if (resume !== undefined) {
      // Whoever is resumed may ask for the next hint before this returns.
      this.resume = undefined
      resume(Effect.succeed(version))
    } else if (this.untaken === undefined || version > this.untaken) {
      this.untaken = version
    }
  }

  readonly next: Effect.Effect<number> = Effect.callback((resume) => {
    if (this.untaken !== undefined) {
      resume(Effect.succeed(this.untaken))
      this.untaken = undefined
      return
    }
    this.resume = resume
    return Effect.sync(() => {
      this.resume = undefined
    })
  })
}

export type { Reader }

/** The readers of every channel that has any. */
export class Readers {
  private readonly byChannel = new Map<string, Set<Reader>>()

  get channels(): ReadonlyArray<string> {
    return Array.from(this.byChannel.keys())
  }

  has(channel: string): boolean {
    return this.byChannel.has(channel)
  }

  add(channel: string): Reader {
    const reader = new Reader()
    const readers = this.byChannel.get(channel)
    if (readers === undefined) this.byChannel.set(channel, new Set([reader]))
    else readers.add(reader)
    return reader
  }

  remove(channel: string, reader: Reader): void {
    const readers = this.byChannel.get(channel)
    readers?.delete(reader)
    if (readers?.size === 0) this.byChannel.delete(channel)
  }

  offer(channel: string, version: number): void {
    this.byChannel.get(channel)?.forEach((reader) => reader.offer(version))
  }
}
