import { cut } from "./cut.ts"

// Control and format characters (bidirectional ones too), line separators, and lone surrogates.
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu

const escape = (character: string): string =>
  character === "\n" ? String.raw`\n` : String.raw`\u{${character.codePointAt(0)?.toString(16)}}`

/**
 * Makes foreign text safe for a message, a log line and a terminal: cuts it to `maxLength` UTF-16 code units, and shows
 * characters that are not plain printable text as `\n` or `\u{1b}`.
 */
export const printable = (text: unknown, maxLength: number): string =>
  cut(typeof text === "string" ? text : String(text), maxLength).replace(unprintable, escape)

/** Makes foreign text safe likewise, and puts it in quotes. */
export const quote = (text: unknown, maxLength: number): string => `"${printable(text, maxLength)}"`

/** Makes the text of a schema issue safe likewise, on one line. */
export const printableIssue = (issue: string): string =>
  printable(issue.slice(0, 1000).replaceAll(/\s*\n\s*/g, " "), 300)
