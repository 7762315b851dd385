#!/usr/bin/env node
/** Entry point of the inspector, `effect-query-state`. */
import * as Effect from "effect/Effect"
import { program } from "./command.ts"
import * as Node from "./node.ts"

// @effect-diagnostics-next-line strictEffectProvide:off -- this is the entry point
Node.runMain(Effect.provide(program, Node.layer))
