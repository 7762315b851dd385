/** Names each command, so that Redis recognises one that is sent again. */
import * as SecureRandom from "effect/crypto/SecureRandom"

const counterEnd = 1_000_000_000

/**
 * Makes a source of operation ids: ten random digits, which name this store, and nine digits that count.
 *
 * So few digits suffice, because an id is compared only with that of the last command of the record. Redis stores a number
 * below 2^63 in nine bytes.
 */
export const make = (): () => string => {
  const [a = 0, b = 0, c = 0, d = 0] = SecureRandom.randomBytesUnsafe(4)
  const store = 1_000_000_000 + ((a << 24 | b << 16 | c << 8 | d) >>> 0)
  let count = 0
  return () => {
    count = (count + 1) % counterEnd
    return `${store}${String(count).padStart(9, "0")}`
  }
}
