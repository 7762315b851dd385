/** Formats records as lines of text. Pure functions. */
import * as Arr from "effect/Array"
import * as CliOutput from "effect/cli/CliOutput"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Order from "effect/Order"
import type * as Terminal from "effect/Terminal"
import * as HistoryEntry from "../domain/HistoryEntry.ts"
import { percent } from "../domain/internal/percent.ts"
import * as Printable from "../domain/internal/printable.ts"
import * as Progress from "../domain/Progress.ts"
import * as QueryEvent from "../domain/QueryEvent.ts"
import * as QueryKey from "../domain/QueryKey.ts"
import type { QueryRecord } from "../domain/QueryRecord.ts"
import * as QueryState from "../domain/QueryState.ts"
import * as Reason from "../domain/Reason.ts"

/* Text */

const longestText = 10_000

/** Makes foreign text safe for a terminal: control characters and their like are shown as `\n` or `\u{1b}`. */
export const printable = (text: string, maxLength: number = longestText): string => Printable.printable(text, maxLength)

/** Escapes what `JSON.stringify` leaves as it is: C1 and bidirectional characters, among others. */
export const json = (text: string): string =>
  text.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu,
    (character) =>
      character.split("").map((unit) => String.raw`\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join("")
  )

const printableHolder = (holder: string | undefined): string => printable(holder ?? "unnamed", Reason.maxLength.name)

const ellipsis = "…"
const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" })

const cut = (text: string, width: number): string => {
  if (CliOutput.displayWidth(text) <= width) return text
  let kept = ""
  for (const { segment } of graphemes.segment(text)) {
    if (CliOutput.displayWidth(kept + segment + ellipsis) > width) break
    kept += segment
  }
  return width < 1 ? "" : kept + ellipsis
}

/** Breaks a text into lines between its words; a word that is too long is cut. */
const wrap = (text: string, width: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  for (const word of text.split(" ")) {
    const longer = lines.length === 0 ? word : `${lines.at(-1)} ${word}`
    if (lines.length > 0 && CliOutput.displayWidth(longer) <= width) lines[lines.length - 1] = longer
    else lines.push(word)
  }
  return lines.map((line) => cut(line, width))
}

const spaces = (text: string, width: number): string => " ".repeat(Math.max(0, width - CliOutput.displayWidth(text)))
const padEnd = (text: string, width: number): string => text + spaces(text, width)
const padStart = (text: string, width: number): string => spaces(text, width) + text

/** Formats a time span in its two largest units, rounded down; a negative one is "0s". */
export const formatSpan = (millis: number): string => {
  const parts = Duration.format(Duration.seconds(Math.max(0, Math.floor(millis / 1000)))).split(" ")
  return parts[0] === "0" ? "0s" : parts.slice(0, 2).join(" ")
}

const millisBetween = (from: DateTime.Utc, to: DateTime.Utc): number => to.epochMilliseconds - from.epochMilliseconds

const age = ({ changedAt }: QueryRecord, now: DateTime.Utc): string =>
  changedAt === undefined ? "" : formatSpan(millisBetween(changedAt, now))

const leaseLeft = ({ expiresAt }: QueryState.Claim, now: DateTime.Utc): string =>
  expiresAt === undefined ? "none" : formatSpan(millisBetween(now, expiresAt))

/* One record */

const tagWidth = Math.max(...QueryState.tags.map((tag) => tag.length))
const eventWidth = Math.max(...QueryEvent.all.map((event) => event.length))

const detailOf = ({ progress, state }: QueryRecord): string => {
  if ("reason" in state) return `(${Reason.format(state.reason)})`
  const holder = QueryState.claimOf(state)?.holder
  return [
    ...(holder === undefined ? [] : [`by ${printableHolder(holder)}`]),
    ...(progress === undefined ? [] : [Progress.format(progress)])
  ].join(", ")
}

// In columns of a terminal: a line is not cut, and a label can be long.
const longestLabel = 60

/** Formats a record as one line: state, time of the last change, query, label, and holder or reason. */
export const line = (record: QueryRecord): string =>
  [
    record.state._tag.padEnd(tagWidth),
    record.changedAt === undefined ? "" : DateTime.formatIso(record.changedAt),
    printable(record.key.query),
    ...(record.label === undefined ? [] : [`"${cut(printable(record.label), longestLabel)}"`]),
    detailOf(record)
  ].join("  ").trimEnd()

/** Formats a transition as one line: time, event, and states. */
export const historyLine = (entry: HistoryEntry.HistoryEntry): string =>
  [DateTime.formatIso(entry.at), (entry.event ?? "").padEnd(eventWidth), HistoryEntry.format(entry)].join(
    "  "
  )

/** Formats all that is known of a query, one fact a line. */
export const details = (record: QueryRecord, now: DateTime.Utc): ReadonlyArray<string> => {
  const { attempts, changedAt, keptUntil, key, label, progress, state, traceparent, version, waitsFor = [] } = record
  const claim = QueryState.claimOf(state)
  const reason = "reason" in state ? state.reason : undefined
  const facts: ReadonlyArray<readonly [name: string, fact: string | undefined]> = [
    ["Database", printable(key.db)],
    ["Query", printable(key.query)],
    ["Label", label && printable(label)],
    ["State", `${state._tag}: the query ${QueryState.descriptions[state._tag]}`],
    ["Since", changedAt && `${DateTime.formatIso(changedAt)}, ${age(record, now)} ago`],
    ["Holder", claim && printableHolder(claim.holder)],
    [
      "Lease",
      claim && (claim.expiresAt === undefined
        ? "none: the claim never lapses"
        : `until ${DateTime.formatIso(claim.expiresAt)}, ${leaseLeft(claim, now)} left unless it is renewed`)
    ],
    ["Fence", claim && `${claim.fence}`],
    ["Progress", progress && Progress.format(progress)],
    ...waitsFor.map(({ key }) => ["Waits for", printable(QueryKey.format(key))] as const),
    ["Reason", reason && Reason.format(reason)],
    ["Attempts", attempts > 0 ? `${attempts}` : undefined],
    [
      "Expires",
      keptUntil &&
      `${DateTime.formatIso(keptUntil)}, in ${formatSpan(millisBetween(now, keptUntil))}: Known from then on`
    ],
    ["Trace", traceparent && printable(traceparent, 100)],
    ["Version", version === 0 ? "0: there is no record" : `${version}`]
  ]
  const detail = reason?._tag === "Failed" && reason.detail !== undefined
    ? ["Detail", ...reason.detail.split("\n").map((text) => `  ${printable(text)}`)]
    : []
  return [...facts.flatMap(([name, fact]) => fact === undefined ? [] : [`${name.padEnd(10)}${fact}`]), ...detail]
}

/* The live view */

/** One snapshot of a database. */
export interface Snapshot {
  readonly now: DateTime.Utc
  readonly counts: Readonly<Record<QueryState.Tag | "Unreadable", number>>
  readonly pending: ReadonlyArray<QueryRecord>
}

/** What the live view shows: the last snapshot, and the error since then. */
export interface Shown {
  readonly db: QueryKey.DbId
  readonly snapshot: Snapshot | undefined
  readonly trouble: string | undefined
}

interface Style {
  readonly glyph: string
  readonly colour: number
}

// The glyphs differ, too, for terminals without colours.
const styles: Readonly<Record<QueryState.Tag | "Unreadable", Style>> = {
  Completed: { glyph: "█", colour: 32 },
  Executing: { glyph: "▓", colour: 34 },
  Resetting: { glyph: "▒", colour: 35 },
  Queued: { glyph: "░", colour: 36 },
  Known: { glyph: "·", colour: 90 },
  Cancelled: { glyph: "-", colour: 33 },
  Errored: { glyph: "x", colour: 31 },
  ResetFailed: { glyph: "!", colour: 31 },
  Unreadable: { glyph: "?", colour: 31 }
}
const inBar = Object.keys(styles) as Array<keyof typeof styles>

type Paint = (code: number, text: string) => string
const bold = 1
const dim = 2
const red = 31

/** One run of glyphs for each state, proportional to its count. */
const bar = (counts: Snapshot["counts"], width: number, paint: Paint): string => {
  const total = inBar.reduce((sum, state) => sum + counts[state], 0)
  let seen = 0
  return inBar.map((state) => {
    const start = Math.round((seen / total) * width)
    seen += counts[state]
    const { colour, glyph } = styles[state]
    const cells = total === 0 ? 0 : Math.round((seen / total) * width) - start
    return cells === 0 ? "" : paint(colour, glyph.repeat(cells))
  }).join("")
}

/** The count of each state, on as many lines as needed. */
const legend = (counts: Snapshot["counts"], width: number, paint: Paint): ReadonlyArray<string> => {
  const lines: Array<string> = []
  let column = width
  for (const state of inBar) {
    if (counts[state] === 0) continue
    const { colour, glyph } = styles[state]
    const text = cut(`${glyph} ${state} ${counts[state]}`, width)
    const item = paint(colour, text)
    if (column + 3 + text.length <= width) {
      lines.push(`${lines.pop()}   ${item}`)
      column += 3 + text.length
    } else {
      lines.push(item)
      column = text.length
    }
  }
  return lines
}

const oldestFirst = Order.mapInput(Order.Number, ({ changedAt }: QueryRecord) => changedAt?.epochMilliseconds ?? 0)

/** Queries at work come before queued ones. */
const atWorkFirst = Order.combine(
  Order.mapInput(Order.Boolean, ({ state }: QueryRecord) => state._tag === "Queued"),
  oldestFirst
)

const gaugeWidth = 10

/** A small progress bar. */
const gauge = (progress: Progress.Progress | undefined): string => {
  if (progress === undefined) return ""
  const part = Progress.fraction(progress)
  if (part === undefined) return cut(`${progress.done} done`, gaugeWidth + 5)
  const cells = Math.floor(part * gaugeWidth)
  return `${"▓".repeat(cells)}${"░".repeat(gaugeWidth - cells)} ${`${percent(part)}%`.padStart(4)}`
}

interface Column {
  readonly head: string
  readonly cell: (record: QueryRecord) => string
  readonly pad: (text: string, width: number) => string
  /** Only name columns are cut on a narrow terminal. */
  readonly isName?: boolean
}

// On a narrower terminal, holder and lease would leave too little room for the query.
const claimWidth = 60

const columnsOf = (records: ReadonlyArray<QueryRecord>, now: DateTime.Utc, width: number): ReadonlyArray<Column> => {
  const ofClaim = (cell: (claim: QueryState.Claim) => string) => ({ state }: QueryRecord) => {
    const claim = QueryState.claimOf(state)
    return claim === undefined ? "" : cell(claim)
  }
  const label: Column = { head: "LABEL", cell: ({ label = "" }) => printable(label), pad: padEnd, isName: true }
  const progress: Column = { head: "PROGRESS", cell: ({ progress }) => gauge(progress), pad: padEnd }
  const claim: ReadonlyArray<Column> = [
    { head: "HOLDER", cell: ofClaim(({ holder }) => printableHolder(holder)), pad: padEnd, isName: true },
    { head: "LEASE", cell: ofClaim((claim) => leaseLeft(claim, now)), pad: padStart }
  ]
  return [
    { head: "STATE", cell: ({ state }) => state._tag, pad: padEnd },
    { head: "AGE", cell: (record) => age(record, now), pad: padStart },
    { head: "QUERY", cell: ({ key }) => printable(key.query), pad: padEnd, isName: true },
    ...(records.some((record) => record.label !== undefined) ? [label] : []),
    ...(records.some((record) => record.progress !== undefined) ? [progress] : []),
    ...(width >= claimWidth ? claim : [])
  ]
}

const gap = "  "

/** A table of pending queries that fits the width: names share the width that the other columns leave. */
const table = (
  records: ReadonlyArray<QueryRecord>,
  now: DateTime.Utc,
  width: number,
  paint: Paint
): ReadonlyArray<string> => {
  const columns = columnsOf(records, now, width).map(({ cell, head, isName = false, pad }) => {
    const cells = [head, ...records.map(cell)]
    return { cells, isName, pad, width: Math.max(...cells.map((cell) => CliOutput.displayWidth(cell))) }
  })
  const names = columns.filter(({ isName }) => isName).toSorted((a, b) => a.width - b.width)
  let left = columns.reduce((left, { isName, width }) => left - gap.length - (isName ? 0 : width), width + gap.length)
  for (const [index, name] of names.entries()) {
    name.width = Math.max(0, Math.min(name.width, Math.floor(left / (names.length - index))))
    left -= name.width
  }
  const line = (index: number) =>
    cut(columns.map(({ cells, pad, width }) => pad(cut(cells[index] ?? "", width), width)).join(gap).trimEnd(), width)
  return [
    paint(dim, line(0)),
    ...records.map(({ state: { _tag } }, index) => {
      const text = line(index + 1)
      return paint(styles[_tag].colour, text.slice(0, _tag.length)) + text.slice(_tag.length)
    })
  ]
}

const plural = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`

/** The lines of the live view, which fit the terminal. */
export const frame = (
  { db, snapshot, trouble }: Shown,
  { columns, rows }: Terminal.Size,
  { isColoured }: { readonly isColoured: boolean }
): ReadonlyArray<string> => {
  const paint: Paint = (code, text) => isColoured && text !== "" ? `\u001b[${code}m${text}\u001b[0m` : text
  const troubles = trouble === undefined ? [] : wrap(printable(trouble), columns).map((line) => paint(red, line))
  if (snapshot === undefined) return [paint(bold, cut(printable(db), columns)), ...troubles].slice(0, rows)

  const total = inBar.reduce((sum, state) => sum + snapshot.counts[state], 0)
  const time = `${DateTime.formatIso(snapshot.now).slice(11, 19)} UTC`
  const above = [
    paint(bold, cut(`${printable(db)}: ${plural(total, "query", "queries")} at ${time}. Press q to quit`, columns)),
    ...troubles,
    bar(snapshot.counts, columns, paint),
    ...legend(snapshot.counts, columns, paint),
    ""
  ]
  const pending = Arr.sort(snapshot.pending, atWorkFirst)
  if (pending.length === 0) return [...above, paint(dim, cut("No query is pending", columns))].slice(0, rows)

  const room = Math.max(0, rows - above.length - 1)
  const shown = pending.length <= room ? pending : pending.slice(0, Math.max(0, room - 1))
  const rest = pending.length - shown.length
  const more = rest === 0 ? [] : [paint(dim, cut(`${ellipsis} and ${rest} more pending`, columns))]
  return [...above, ...table(shown, snapshot.now, columns, paint), ...more].slice(0, rows)
}
