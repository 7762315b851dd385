/**
 * All orders in which the steps of a few actors can happen.
 *
 * Nothing is known beforehand of the steps: each play asks at each point which of those that are possible there comes
 * next. Played again with the same answers it has to offer the same steps, so that all orders are found by changing,
 * from play to play, the last answer that has an alternative.
 */

export interface Step {
  readonly actor: number
  /** Names the step among all those that may be possible at the same time. */
  readonly id: string
}

/**
 * What a step had to do with the others. Two steps of different actors come to the same in either order if both but
 * read, or if one concerns no other actor.
 */
export type Touch = "nothing" | "reads" | "writes" | "everything"

interface Taken extends Step {
  readonly touch: Touch
}

interface Choice {
  readonly step: Step
  readonly possible: ReadonlyArray<Step>
  /** Steps that need not be taken here: what comes of them has been seen. */
  readonly seen: ReadonlyArray<Taken>
  touch: Touch
}

const commute = (left: Taken, right: Taken): boolean =>
  left.actor !== right.actor && left.touch !== "everything" && right.touch !== "everything" &&
  (left.touch === "nothing" || right.touch === "nothing" || (left.touch === "reads" && right.touch === "reads"))

const firstUnseen = (possible: ReadonlyArray<Step>, seen: ReadonlyArray<Step>): Step | undefined =>
  possible.find(({ id }) => !seen.some((step) => step.id === id))

export class Orders {
  private readonly choices: Array<Choice> = []
  private readonly isThrifty: boolean
  private depth = 0

  /** With `isThrifty`, of all orders that must come to the same only one is played to its end. */
  constructor({ isThrifty }: { readonly isThrifty: boolean }) {
    this.isThrifty = isThrifty
  }

  /** Chooses the next step of a play; `undefined` where the play can be left, because it has been seen. */
  choose(possible: ReadonlyArray<Step>): Step | undefined {
    const known = this.choices[this.depth]
    if (known !== undefined) {
      this.depth += 1
      return known.step
    }
    const seen = this.isThrifty ? this.stillSeen() : []
    const step = firstUnseen(possible, seen)
    if (step !== undefined) {
      this.choices.push({ step, possible, seen, touch: "everything" })
      this.depth += 1
    }
    return step
  }

  /** Records how the chosen step touched others. */
  took(touch: Touch): void {
    const choice = this.choices[this.depth - 1]
    if (choice !== undefined) choice.touch = touch
  }

  /** Goes on to the next play; `false` where all have been seen. */
  next(): boolean {
    this.depth = 0
    for (let last = this.choices.pop(); last !== undefined; last = this.choices.pop()) {
      const { possible, touch } = last
      const seen = [...last.seen, { ...last.step, touch }]
      const step = firstUnseen(possible, seen)
      if (step !== undefined) {
        this.choices.push({ step, possible, seen, touch: "everything" })
        return true
      }
    }
    return false
  }

  // What has been seen before the last step comes to the same after it, if the two commute.
  private stillSeen(): ReadonlyArray<Taken> {
    const last = this.choices[this.depth - 1]
    return last === undefined ? [] : last.seen.filter((step) => commute(step, { ...last.step, touch: last.touch }))
  }
}
