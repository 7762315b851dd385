/** The listeners of this process, by channel. */
import type { QueryKey } from "../../domain/QueryKey.ts"
import type { Listener } from "../../services/RedisStore.ts"

interface Channel {
  readonly key: QueryKey
  listeners: Listener | Set<Listener>
}

/** The listeners of all channels. Most channels have one listener, which needs no set. */
export class Listeners {
  private readonly byName = new Map<string, Channel>()

  get channels(): ReadonlyArray<string> {
    return Array.from(this.byName.keys())
  }

  get isEmpty(): boolean {
    return this.byName.size === 0
  }

  has(name: string): boolean {
    return this.byName.has(name)
  }

  /** The query of a channel; `undefined` if the channel has no listener. */
  keyOf(name: string): QueryKey | undefined {
    return this.byName.get(name)?.key
  }

  add(name: string, key: QueryKey, listener: Listener): void {
    const channel = this.byName.get(name)
    if (channel === undefined) this.byName.set(name, { key, listeners: listener })
    else if (channel.listeners instanceof Set) channel.listeners.add(listener)
    else channel.listeners = new Set([channel.listeners, listener])
  }

  remove(name: string, listener: Listener): void {
    const listeners = this.byName.get(name)?.listeners
    if (listeners instanceof Set) listeners.delete(listener)
    if (listeners === listener || (listeners instanceof Set && listeners.size === 0)) this.byName.delete(name)
  }

  each(name: string, f: (listener: Listener) => void): void {
    const listeners = this.byName.get(name)?.listeners
    if (listeners instanceof Set) listeners.forEach(f)
    else if (listeners !== undefined) f(listeners)
  }
}
