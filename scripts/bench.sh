#!/usr/bin/env bash
# `make bench`: sets up what is missing, then the table of what is to be reached, the micro benchmarks and the two that measure a whole
# Hearth beside its limits row by row. `bench.sh reach` is the table alone.
# A Docker engine that runs is used and left alone; where none runs one is started and stopped at the end.
#
#   bench.sh [reach|micro|warm_path|cold_start]… [-- arguments of all but micro]
#
# The micro benchmarks say what changed since the last run on this machine; SAVE=NAME keeps this run by a name, AGAINST=NAME compares with it.
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

which=()
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
    micro)
        for micro in frame lease route; do
            cargo bench --locked --profile "$PROFILE" --bench "$micro" -- --noplot \
                ${SAVE:+--save-baseline "$SAVE"} ${AGAINST:+--baseline "$AGAINST"}
        done
        ;;
    *) cargo bench --locked --profile "$PROFILE" --bench "$bench" -- "$@" ;;
    esac
done
