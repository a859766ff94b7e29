#!/usr/bin/env bash
# `make test`: sets up what is missing, then everything that is checked, cheapest first. A Docker
# engine that runs is used and left alone; where none runs one is started and stopped at the end.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

cd "$ROOT"
# Nothing of an instance that the caller uses may reach the tests.
unset HEARTH_URL HEARTH_KEY HEARTH_STATE_DIR DRY_RUN
work=$(mktemp -d "${TMPDIR:-/tmp}/hearth-test.XXXXXX")
bringing=""

# Names of the containers that Hearth's instances have, but for the instance of the README's commands, which goes on running.
hearths_containers() {
    local ours
    ours=$(as_root cat "$work/state/instance" 2>/dev/null || true)
    docker_within 30 ps -a --filter label=hearth.instance \
        --format '{{.Names}} {{.Image}} of {{.Label "hearth.instance"}}, {{.Status}}' | { grep -v " of ${ours:-nobody}, " || true; }
}

# Containers that a test left behind: a fault of the test or of what it tests, and removed. Looked for only in an engine of our own; in one
# that was there before, they may be somebody else's, as are those that our own engine's data held when it was started.
none_left() {
    local name rest containers=()
    as_root test -s "$work/engine.record" || return 0
    while read -r name rest; do
        grep -qxF "$name" "$work/before" || containers+=("$name $rest")
    done < <(hearths_containers)
    [ "${#containers[@]}" -gt 0 ] || return 0
    echo "error: $1 left ${#containers[@]} containers behind"
    printf '    %s\n' "${containers[@]}"
    docker_within 120 rm -f "${containers[@]%% *}" >/dev/null
    return 1
} >&2

# Whatever happens, what was started here is stopped. It is done in silence unless something is
# wrong, so that the last lines of the output are the tests' own.
clean_up() {
    local status=$?
    # A second Ctrl-C must not leave half of it running.
    trap - EXIT
    trap '' INT TERM
    set +e
    # By session: `timeout` makes groups of its own.
    [ -z "$bringing" ] || pkill -TERM -s "$bringing"
    {
        HEARTH_STATE_DIR=$work/state scripts/instance.sh stop || status=1
        as_root rm -f "$work/state/instance"
        none_left "what ran last" || status=1
        scripts/engine.sh stop "$work/engine.record" || status=1
    } >"$work/clean-up.log" 2>&1
    [ "$status" = 0 ] || cat "$work/clean-up.log" >&2
    as_root rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Tests on real containers depend on a machine that others may load. Up to two of these that fail are
# run once more, each alone, and are named at the end: who sees one has a fault to find, in the test
# or in what it tests.
flaky=()
tests() {
    local log=$work/tests.log failed=() targets=() target name
    cargo test --locked --no-fail-fast 2>&1 | tee "$log" && return
    mapfile -t failed < <(awk '
        $1 == "Running" { target = $2; sub(/^tests\//, "", target); sub(/(\/main)?\.rs$/, "", target) }
        /^---- .* stdout ----$/ { print target, $2 }' "$log")
    # One that was killed names no test; then nothing is known.
    # shellcheck disable=SC2016
    mapfile -t targets < <(sed -n 's/^    `--test \(.*\)`$/\1/p; s/^    `--\(lib\|bin.*\|doc.*\)`$/\1/p' "$log")
    [ "${#failed[@]}" -ge 1 ] && [ "${#failed[@]}" -le 2 ] || return 1
    for target in "${targets[@]}"; do
        [[ " ${failed[*]}" == *" $target "* ]] || return 1
    done
    for failure in "${failed[@]}"; do
        read -r target name <<<"$failure"
        case $target in docker | contract) ;; *) return 1 ;; esac
        say "Once more, alone: $name"
        cargo test --locked --test "$target" -- --exact "$name"
        flaky+=("$name")
    done
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

scripts/setup.sh "$work/engine.record"
hearths_containers | cut -d " " -f 1 >"$work/before"
# The suites' tools come over the network while the compiler has the processors. In a session of its own, to be stopped as one.
setsid tests/tools.sh aws openapi dashboard >"$work/tools.log" 2>&1 &
bringing=$!
scripts/shims.sh
# Whole before anything is compiled, which takes what is there of it.
scripts/dashboard.sh check
say "Formatting"
cargo fmt --check
say "Lints"
cargo clippy --all-targets --locked -- -D warnings
wait "$bringing" || die "the suites' tools: $(cat "$work/tools.log")"
bringing=""
say "Tests"
# What makes directories for workers has to be root; cargo itself need not be.
if [ "$(id -u)" != 0 ] && may_be_root; then
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${host}_RUNNER=sudo -nE"
fi
tests
none_left "cargo test"
say "The simulation's seeds"
cargo test --locked --lib -- --ignored --test-threads 1 sim::tests
say "Fuzzing, for a while"
scripts/fuzz.sh 10
say "The OpenAPI document against a server"
tests/openapi/run.sh
none_left "the OpenAPI suite"
say "AWS's own clients against a server"
tests/aws/run.sh
none_left "the AWS suite"
say "The README's commands"
HEARTH_STATE_DIR=$work/state PORT=$(free_port) PROFILE=dev tests/readme.sh
say "The dashboard in a browser"
tests/dashboard/run.sh
none_left "the dashboard's suite"
for name in "${flaky[@]}"; do say "Passed the second time only: $name"; done
