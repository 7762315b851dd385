/** Every name that FlowMachine uses in Redis, and the one that this library uses beside them. */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as QueryEvent from "../../../domain/QueryEvent.ts"
import { type DbId, QueryKey } from "../../../domain/QueryKey.ts"
import { InvalidInput } from "../../../services/RedisStoreError.ts"
import { glob } from "./keys.ts"

export const reserved = "finist"

/** What FlowMachine calls the events; the names on the wire are others. */
const members: Readonly<Record<QueryEvent.QueryEvent, string>> = {
  Queue: "QUEUE",
  Execute: "EXECUTE",
  Finish: "FINISH",
  Error: "ERROR",
  Cancel: "CANCEL",
  Reset: "RESET",
  FinishReset: "FINISH_RESET"
}

// Nothing is encoded in these names, so a ":" in the id of a database could as well be the end of it.
const checkDb = (db: DbId): Result.Result<DbId, InvalidInput> =>
  db.includes(":")
    ? Result.fail(
      new InvalidInput({
        issue:
          `FlowMachine would keep queries of the database "${db}" under the names of others: its id must hold no ":"`
      })
    )
    : Result.succeed(db)

/** The key of a query's state: `finist:<db>:<query>-state`. */
export const state = ({ db, query }: QueryKey): Result.Result<string, InvalidInput> =>
  Result.map(checkDb(db), (db) => `${reserved}:${db}:${query}-state`)

/** The keys of the hashes that say where each event leads, in the order of `QueryEvent.all`. */
export const hashes = (stateKey: string): ReadonlyArray<string> =>
  QueryEvent.all.map((event) => `${stateKey}:QueryEvent.${members[event]}`)

/** The key of the record that this library keeps beside the state, and the channel of its notifications. */
export const record = (prefix: string, stateKey: string): string => `${prefix}:${stateKey}`

/** The pattern that finds the states of a database with `SCAN`. */
export const pattern = (db: DbId): Result.Result<string, InvalidInput> =>
  Result.map(checkDb(db), (db) => `${reserved}:${glob(db)}:*-state`)

/** The pattern that finds the states of all databases. */
export const patternOfAll = `${reserved}:*:*-state`

const decodeKey = Schema.decodeUnknownResult(QueryKey)

/** The query whose state has a key, if that key is one of a state. */
export const parse = (stateKey: string): Result.Result<QueryKey, unknown> => {
  const [, db, query] = /^finist:([^:]*):(.*)-state$/s.exec(stateKey) ?? []
  return decodeKey({ db, query })
}
