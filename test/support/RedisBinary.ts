/**
 * The program that the tests start servers from: found on the `PATH`, or installed from the system's packages.
 */
import { Console, Effect, Option, Schema } from "effect"
import { execFile } from "node:child_process"

export class RedisBinaryError extends Schema.TaggedError<RedisBinaryError>()("RedisBinaryError", {
  message: Schema.String
}) {}

const leastMajorVersion = 7

const installers: ReadonlyArray<{
  readonly manager: string
  readonly needsRoot: boolean
  readonly script: string
}> = [
  {
    manager: "apt-get",
    needsRoot: true,
    // Debian's package starts a service and enables it at boot. policy-rc.d denies the start; `disable` undoes the rest.
    script: `
      policy=/usr/sbin/policy-rc.d
      if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\\nexit 101\\n' > "$policy"
        chmod +x "$policy"
      fi
      export DEBIAN_FRONTEND=noninteractive
      apt-get update -qq || true
      for package in redis-server valkey-server; do
        if apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 "$package"; then
          systemctl disable "$package" || true
          exit 0
        fi
      done
      exit 1
    `
  },
  { manager: "apk", needsRoot: true, script: "apk add --no-cache valkey || apk add --no-cache redis" },
  { manager: "dnf", needsRoot: true, script: "dnf install -y valkey || dnf install -y redis" },
  { manager: "yum", needsRoot: true, script: "yum install -y valkey || yum install -y redis" },
  { manager: "pacman", needsRoot: true, script: "pacman -S --noconfirm valkey || pacman -S --noconfirm redis" },
  { manager: "brew", needsRoot: false, script: "brew install redis" }
]

/** Runs a program to its end, and answers what it printed. */
export const run = (
  command: string,
  args: ReadonlyArray<string>,
  timeout = 10_000
): Effect.Effect<string, RedisBinaryError> =>
  Effect.callback((resume) => {
    const child = execFile(command, args, { timeout }, (error, stdout, stderr) =>
      resume(
        error === null
          ? Effect.succeed(stdout)
          : Effect.fail(new RedisBinaryError({ message: `${error.message}\n${stdout}\n${stderr}` }))
      ))
    // Nothing that is asked on a terminal gets an answer.
    child.stdin?.end()
    return Effect.sync(() => child.kill())
  })

const programs = ["redis-server", "valkey-server"]

const majorVersion = (program: string) =>
  run(program, ["--version"]).pipe(Effect.map((version) => Number(/ v=(\d+)\./.exec(version)?.[1])))

const find = Effect.findFirst(programs, (program) =>
  majorVersion(program).pipe(
    Effect.map((version) => version >= leastMajorVersion),
    Effect.orElseSucceed(() => false)
  )).pipe(
    Effect.flatMap(Effect.fromOption(() => new RedisBinaryError({ message: "what was installed is too old" })))
  )

const install = Effect.gen(function*() {
  // An older server may be in use, so it is not replaced.
  const older = yield* Effect.findFirst(programs, (program) => Effect.isSuccess(majorVersion(program)))
  if (Option.isSome(older)) {
    return yield* new RedisBinaryError({ message: `there is an older ${older.value} already` })
  }

  const installer = yield* Effect.findFirst(
    installers,
    ({ manager }) => Effect.isSuccess(run("sh", ["-c", `command -v ${manager}`]))
  ).pipe(
    Effect.flatMap(Effect.fromOption(() => new RedisBinaryError({ message: "no known package manager was found" })))
  )
  const asRoot = installer.needsRoot && process.getuid?.() !== 0 ? ["sudo", "-n"] : []
  const [command, ...args] = [...asRoot, "sh", "-c", installer.script] as const

  yield* Console.log(`No Redis server on the PATH: installing one with ${installer.manager}, for the tests …`)
  yield* run(command, args, 300_000)
})

/**
 * Finds a Redis or Valkey server of version 7 or newer. Installs one when that needs no questions.
 */
export const resolve: Effect.Effect<string, RedisBinaryError> = find.pipe(
  Effect.catch(() => Effect.andThen(install, find)),
  Effect.mapError((error) =>
    new RedisBinaryError({
      message: [
        `The tests start Redis servers of their own and found none of version ${leastMajorVersion} or newer on the PATH.`,
        "Install one and run them again: apt-get install redis-server, apk add valkey, dnf install valkey,",
        "pacman -S valkey or brew install redis. Installing it for you did not work:",
        error.message.trim().split("\n").slice(-10).join("\n")
      ].join("\n")
    })
  )
)
