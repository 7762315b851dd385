/** Which FlowMachine a Redis is shared with. */
export type Dialect = "released" | "reset-failed"
