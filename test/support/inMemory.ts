/**
 * Tests in virtual time: each has its own memory store with injected faults, and no jitter.
 */
import { it } from "@effect/vitest"
import { Effect, Layer, Random, type Scope } from "effect"
import { type RedisStore, RedisStoreFaults, RedisStoreMemory } from "effect-query-state"

export type Stores = RedisStore.RedisStore | RedisStoreFaults.RedisStoreFaults

/** Half way between the bounds, so that jitter changes no delay. */
const NoJitter = Layer.succeed(Random.Random, { nextDoubleUnsafe: () => 0.5, nextIntUnsafe: () => 0 })

const Stores: Layer.Layer<Stores> = Layer.merge(RedisStoreFaults.layer(RedisStoreMemory.layer), NoJitter)

export const inMemory = <A, E>(name: string, test: () => Effect.Effect<A, E, Stores | Scope.Scope>): void =>
  it.effect(name, () => Effect.provide(test(), Stores))
