/** A tracer that collects its spans for a test. */
import { Layer, Option, Tracer } from "effect"

export interface Spans {
  readonly layer: Layer.Layer<never>
  /** The spans so far, in the order in which they began. */
  readonly all: ReadonlyArray<Tracer.Span>
  /** The only span with a name. */
  readonly one: (name: string) => Tracer.Span
}

export const make = (): Spans => {
  const all: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      all.push(span)
      return span
    }
  })
  return {
    layer: Layer.succeed(Tracer.Tracer, tracer),
    all,
    one: (name) => {
      const [span, ...more] = all.filter((span) => span.name === name)
      if (span === undefined || more.length > 0) throw new Error(`There are ${more.length} more spans named ${name}`)
      return span
    }
  }
}

export const parentOf = (span: Tracer.Span): string | undefined =>
  Option.getOrUndefined(Option.map(span.parent, ({ spanId }) => spanId))
