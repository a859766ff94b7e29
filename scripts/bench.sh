#!/usr/bin/env bash
# `make bench`: sets up what is missing, then the table of what is to be reached, the micro benchmarks and the two that measure a whole
# Hearth beside its limits row by row. `bench.sh reach` is the table alone.
# A Docker engine that runs is used and left alone; where none runs one is started and stopped at the end.
#
#   bench.sh [reach|micro|warm_path|cold_start]… [-- arguments of all but micro]
#
# The micro benchmarks end with a list of what got slower since the last run on this machine, which is kept (in target/criterion, by profile).
#   SAVE=NAME     keeps this run by a name, too
#   AGAINST=NAME  compares with that one instead, and exits with 1 if anything is slower
#   CRITERION=…   arguments for criterion: CRITERION="--warm-up-time 0.3 --measurement-time 1"
#   NOISE=10      what a change must be more than, in percent; this machine may do more or less by itself
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

PROFILE=${PROFILE:-release}

cd "$ROOT"
# Nothing of an instance that the caller uses may reach the benches.
unset HEARTH_URL HEARTH_KEY HEARTH_STATE_DIR DRY_RUN
work=$(mktemp -d "${TMPDIR:-/tmp}/hearth-bench.XXXXXX")

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    set +e
    scripts/engine.sh stop "$work/engine.record" >"$work/clean-up.log" 2>&1 || status=1
    [ "$status" = 0 ] || cat "$work/clean-up.log" >&2
    as_root rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

criterion=${CARGO_TARGET_DIR:-target}/criterion
NOISE=${NOISE:-10}
read -ra arguments <<<"${CRITERION:-}"

# micro_bench BASELINE BENCH [ARGUMENTS…]: compares with what is kept by that name, if anything is.
micro_bench() {
    cargo bench --locked --profile "$PROFILE" --bench "$2" -- --noplot --baseline-lenient "$1" "${arguments[@]}" "${@:3}"
}

# How fast the machine is changes from minute to minute. What seems slower is measured once more, and is so only if it is both times.
micro() {
    local last=last-$PROFILE against began again bench name much suspects new slower=()
    against=${AGAINST:-$last}
    if [ -n "${AGAINST:-}" ]; then
        python3 scripts/micro.py has "$criterion" "$AGAINST" || die "no run is kept as $AGAINST: SAVE=$AGAINST scripts/bench.sh micro keeps one"
    fi
    began=$(date +%s.%N)
    for bench in frame lease route; do micro_bench "$against" "$bench"; done
    mapfile -t suspects < <(python3 scripts/micro.py slower "$criterion" "$began" "$NOISE" | cut -f 1)
    for name in "${suspects[@]}"; do
        say "Once more: $name"
        again=$(date +%s.%N)
        # A bench's name begins with its program's.
        micro_bench "$against" "${name%%/*}" --exact "$name"
        much=$(python3 scripts/micro.py slower "$criterion" "$again" "$NOISE" | cut -f 2)
        [ -z "$much" ] || slower+=("$name: $much")
    done
    mapfile -t new < <(python3 scripts/micro.py new "$criterion" "$began" "$against")
    for name in "$last" ${SAVE:+"$SAVE"}; do python3 scripts/micro.py keep "$criterion" "$began" "$name"; done
    say "Slower than ${AGAINST:-the last run} by more than $NOISE %: ${#slower[@]}"
    [ "${#slower[@]}" = 0 ] || printf '    %s\n' "${slower[@]}"
    [ "${#new[@]}" = 0 ] || note "with nothing to compare with: ${#new[@]}"
    [ -z "${AGAINST:-}" ] || [ "${#slower[@]}" = 0 ] || failed=1
}

which=()
failed=0
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
    reach | micro | warm_path | cold_start) which+=("$1") ;;
    *) die "there is no bench $1; there are reach, micro, warm_path and cold_start" ;;
    esac
    shift
done
[ $# = 0 ] || shift
[ "${#which[@]}" -gt 0 ] || which=(reach micro warm_path cold_start)

scripts/setup.sh "$work/engine.record"
# What makes directories for workers has to be root; cargo itself need not be.
if [ "$(id -u)" != 0 ] && may_be_root; then
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${host}_RUNNER=sudo -nE"
fi
say "Building ($PROFILE)"
cargo build --locked --profile "$PROFILE" --bin hearth --benches
say "$(nproc) processors, kernel $(uname -r), hearth $(git describe --always --dirty 2>/dev/null || echo unknown)"
for bench in "${which[@]}"; do
    say "$bench"
    case $bench in
    micro) micro ;;
    *) cargo bench --locked --profile "$PROFILE" --bench "$bench" -- "$@" ;;
    esac
done
exit "$failed"
