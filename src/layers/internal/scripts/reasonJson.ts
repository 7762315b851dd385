/** Reasons as Redis has them. */
import * as Schema from "effect/Schema"
import { interrupted, Reason } from "../../../domain/Reason.ts"

const reasonJson = Schema.fromJsonString(Reason)

// @effect-diagnostics-next-line schemaSync:off -- a reason is always encodable: its constructors see to that
export const encode = Schema.encodeSync(reasonJson)

export const decode = Schema.decodeUnknownOption(reasonJson)

/** The one reason that the scripts know. */
export const interruptedJson: string = encode(interrupted)
