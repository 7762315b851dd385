/** Draws what was measured. */
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import * as Vega from "vega"
import { compile, type TopLevelSpec } from "vega-lite"

export type Figures = Readonly<Record<string, Readonly<Record<string, number>>>>

interface Bar {
  readonly what: string
  readonly value: number | undefined
}

const bars = (title: string, unit: string, scale: "linear" | "log", values: ReadonlyArray<Bar>): TopLevelSpec => ({
  $schema: "https://vega.github.io/schema/vega-lite/v6.json",
  title,
  width: 520,
  height: { step: 30 },
  background: "white",
  data: { values: values.filter(({ value }) => value !== undefined) },
  encoding: {
    y: { field: "what", type: "nominal", sort: null, title: null, axis: { labelLimit: 280 } },
    x: { field: "value", type: "quantitative", title: unit, scale: { type: scale } }
  },
  layer: [
    { mark: { type: "bar", color: "#4c78a8" } },
    {
      mark: { type: "text", align: "left", dx: 4 },
      encoding: { text: { field: "value", type: "quantitative", format: ",.3~s" } }
    }
  ]
})

const render = (spec: TopLevelSpec): Promise<string> =>
  new Vega.View(Vega.parse(compile(spec).spec), { renderer: "none" }).toSVG()

/** Writes the charts into a folder. */
export const write = async (folder: string, figures: Figures): Promise<void> => {
  const wakeUp = bars("From completion to the end of a wait, median", "milliseconds", "log", [
    { what: "a bare message by ioredis", value: figures["wakeUpBare"]?.["p50"] },
    { what: "script, message, read by hand", value: figures["wakeUpByHand"]?.["p50"] },
    { what: "effect-query-state", value: figures["wakeUp"]?.["p50"] },
    { what: "BullMQ, waitUntilFinished", value: figures["wakeUpBull"]?.["p50"] },
    { what: "FlowMachine, which looks every second", value: figures["wakeUpPoll"]?.["p50"] }
  ])
  await writeFile(join(folder, "wake-up.svg"), `${await render(wakeUp)}\n`)
}
