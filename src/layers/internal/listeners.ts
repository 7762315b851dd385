/** Those who listen for the hints of queries, in this process. */
import type { Listener } from "../../services/RedisStore.ts"

/** The listeners of every channel that has any. Most channels have one, which needs no set. */
export class Listeners {
  private readonly byChannel = new Map<string, Listener | Set<Listener>>()

  get channels(): ReadonlyArray<string> {
    return Array.from(this.byChannel.keys())
  }

  get isEmpty(): boolean {
    return this.byChannel.size === 0
  }

  has(channel: string): boolean {
    return this.byChannel.has(channel)
  }

  add(channel: string, listener: Listener): void {
    const there = this.byChannel.get(channel)
    if (there === undefined) this.byChannel.set(channel, listener)
    else if (there instanceof Set) there.add(listener)
    else this.byChannel.set(channel, new Set([there, listener]))
  }

  remove(channel: string, listener: Listener): void {
    const there = this.byChannel.get(channel)
    if (there instanceof Set) there.delete(listener)
    if (there === listener || (there instanceof Set && there.size === 0)) this.byChannel.delete(channel)
  }

  hint(channel: string, version: number): void {
    this.each(channel, (listener) => listener.onHint(version))
  }

  read(channel: string, version: number): void {
    this.each(channel, (listener) => listener.onRead(version))
  }

  progress(channel: string): void {
    this.each(channel, (listener) => listener.onProgress?.())
  }

  private each(channel: string, f: (listener: Listener) => void): void {
    const there = this.byChannel.get(channel)
    if (there instanceof Set) there.forEach(f)
    else if (there !== undefined) f(there)
  }
}
