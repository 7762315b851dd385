/** What a process calls itself as the holder of a claim. */
// oxlint-disable-next-line no-restricted-imports -- nothing in effect tells the name of the host
import { hostname } from "node:os"

export const defaultHolder: string = `${hostname().slice(0, 200)}:${process.pid}`
