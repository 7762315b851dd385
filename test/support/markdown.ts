/**
 * Finds the pages of the documentation, and the fenced blocks of code in Markdown and in the doc comments of TypeScript.
 */
import { readdirSync } from "node:fs"
import * as Path from "node:path"

export const filesIn = (folder: string, extension: string): ReadonlyArray<string> =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(extension))
    .map((file) => Path.join(folder, file))

export const pages: ReadonlyArray<string> = ["README.md", ...filesIn("docs", ".md")]

export interface Block {
  readonly language: string
  readonly text: string
  /** The line in its file where the block begins, from 1. */
  readonly line: number
}

export const blocks = (source: string): ReadonlyArray<Block> =>
  Array.from(source.matchAll(/^([ *]*)```(\w*)\n([^]*?)^\1```$/gm), (match) => {
    const [, margin = "", language = "", text = ""] = match
    return {
      language,
      text: text.split("\n").map((line) => line.slice(margin.length)).join("\n").trimEnd(),
      line: source.slice(0, match.index).split("\n").length
    }
  })

/** The part of a page below a heading, up to the next heading. */
export const section = (page: string, heading: string): string =>
  page.split(/^#+ /m).find((part) => part.startsWith(`${heading}\n`)) ?? ""
