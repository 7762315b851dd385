/**
 * The slot of a key in a cluster, as its specification has it: CRC-16 (XMODEM) of the part in braces, if there is one.
 *
 * ioredis offers the slot of a command alone, and takes 10 microseconds to make one: a tenth of a second for 10,000 channels.
 */

const slotCount = 16_384

const crcOf = (byte: number): number => {
  let crc = byte << 8
  for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021
  return crc & 0xffff
}

const crcs = Uint16Array.from({ length: 256 }, (_, byte) => crcOf(byte))

const encoder = new TextEncoder()

/** The part of a key that decides on its slot. */
const hashed = (redisKey: string): string => {
  const start = redisKey.indexOf("{") + 1
  const end = redisKey.indexOf("}", start)
  return start > 0 && end > start ? redisKey.slice(start, end) : redisKey
}

export const slotOf = (redisKey: string): number => {
  let crc = 0
  for (const byte of encoder.encode(hashed(redisKey))) {
    crc = ((crc << 8) & 0xffff) ^ (crcs[(crc >> 8) ^ byte] ?? 0)
  }
  return crc % slotCount
}
