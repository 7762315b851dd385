/** The SHA-256 of a text, in hexadecimal digits. */
import * as Context from "effect/Context"
import * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

export const sha256 = (text: string): Effect.Effect<string> =>
  Effect.scoped(
    Effect.flatMap(
      Layer.build(Digest.layerWebCrypto),
      (context) => Context.get(context, Digest.Digest).digestHex(Digest.sha256, new TextEncoder().encode(text))
    )
  )
