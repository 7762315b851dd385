/** A Python that has a client for Redis: found, or completed from the packages of a Debian. */
import { Console, Effect, type Option } from "effect"
import { RedisBinaryError, run } from "./RedisBinary.ts"

const programs = ["python3", "/usr/bin/python3"]

const find = Effect.findFirst(programs, (program) => Effect.isSuccess(run(program, ["-c", "import redis"]))).pipe(
  Effect.flatMap(Effect.fromOption(() => new RedisBinaryError({ message: "no Python has a client for Redis" })))
)

// Only the Python of Debian sees the packages of Debian.
const script = `
  export DEBIAN_FRONTEND=noninteractive
  install() { apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 python3-redis; }
  install || { apt-get update -qq && install; }
`

const install = Effect.gen(function*() {
  const asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"]
  const [command, ...args] = [...asRoot, "sh", "-c", script] as const
  yield* run("sh", ["-c", "command -v apt-get"])
  yield* Console.log("No Python with a client for Redis: installing one with apt-get, for the tests …")
  yield* run(command, args, 300_000)
})

/** Finds a Python that can import `redis`. Installs it when that needs no questions. */
export const resolve: Effect.Effect<Option.Option<string>> = find.pipe(
  Effect.catch(() => Effect.andThen(install, find)),
  Effect.option
)
