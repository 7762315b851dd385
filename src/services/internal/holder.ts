/** The default holder of a claim: this process. */
// oxlint-disable-next-line no-restricted-imports -- no module of effect gives the name of the host
import { hostname } from "node:os"

export const defaultHolder: string = `${hostname().slice(0, 200)}:${process.pid}`
