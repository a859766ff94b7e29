#!/usr/bin/env bash
# `make flame`: where the warm path spends its time, as a flame graph of the server under load. Starts a Hearth of its own
# (config/bench.toml, a temporary state directory, a free port), deploys a template, calls it over eight connections and
# has perf look at the server meanwhile. Writes target/flame.svg, and target/flame.folded for other tools.
#
#   flame.sh        RUNTIME=python3.13 SECONDS_LONG=15 CONNECTIONS=8 PROFILE=release
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

PROFILE=${PROFILE:-release}
RUNTIME=${RUNTIME:-python3.13}
LENGTH=${SECONDS_LONG:-15}
CONNECTIONS=${CONNECTIONS:-8}

cd "$ROOT"
unset HEARTH_URL HEARTH_KEY HEARTH_STATE_DIR DRY_RUN PORT
command -v perf >/dev/null || die "perf is missing: install linux-perf (Debian) or linux-tools-$(uname -r) (Ubuntu)"
work=$(mktemp -d "${TMPDIR:-/tmp}/hearth-flame.XXXXXX")
pid=

gone() { ! as_root kill -0 "$pid"; }

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    set +e
    if [ -n "$pid" ]; then
        as_root kill -TERM "$pid"
        # Its containers go before it does.
        wait_for 60 gone || status=1
    fi
    scripts/engine.sh stop "$work/engine.record" >"$work/clean-up.log" 2>&1 || status=1
    as_root rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

scripts/setup.sh "$work/engine.record"
may_be_root || die "making workers' directories needs root"
say "Building ($PROFILE)"
cargo build --locked --profile "$PROFILE" --bin hearth
target=${CARGO_TARGET_DIR:-target}
case $PROFILE in dev) program=$target/debug/hearth ;; *) program=$target/$PROFILE/hearth ;; esac

export HEARTH_STATE_DIR=$work/state
as_root env HEARTH_STATE_DIR="$HEARTH_STATE_DIR" "$program" serve --config config/bench.toml \
    --runtimes runtimes --listen 127.0.0.1:0 >"$work/log" 2>&1 &
announced() { pid=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$HEARTH_STATE_DIR/instance.json"); [ -n "$pid" ]; }
ready() { "$program" list; }
wait_for 60 announced || die "hearth did not start: $(cat "$work/log")"
wait_for 900 ready || die "hearth did not become ready: $(cat "$work/log")"
"$program" deploy "runtimes/$RUNTIME/template" --name flame --runtime "$RUNTIME" >/dev/null

say "Load for $LENGTH s, watched for all of it but the beginning"
"$program" bench --function flame --data '{"name": "flame"}' --connections "$CONNECTIONS" \
    --warm-up 3s --length "$((LENGTH + 2))s" &
load=$!
# The warm-up, and its first calls.
sleep 4
# By the processor's clock, because virtual machines have no counters; stacks by unwinding, because release builds keep no
# frame pointers.
as_root perf record --quiet -e cpu-clock -F 499 --call-graph dwarf,16384 -p "$pid" \
    -o "$work/perf.data" -- sleep "$((LENGTH - 2))" >"$work/perf.log" 2>&1 || die "perf: $(cat "$work/perf.log")"
wait "$load"

say "Drawing"
as_root perf script -i "$work/perf.data" --no-inline 2>/dev/null | python3 scripts/flame.py fold >"$target/flame.folded"
python3 scripts/flame.py draw <"$target/flame.folded" >"$target/flame.svg"
note "$target/flame.svg: $(awk '{ n += $NF } END { print n }' "$target/flame.folded") samples of process $pid, hearth $(git describe --always --dirty 2>/dev/null || echo unknown)"
