#!/usr/bin/env bash
# `make flame`: where the warm path spends its time, as a flame graph of the server under load. Starts a Hearth of its own
# (config/bench.toml, a temporary state directory, a free port), deploys a template, calls it over eight connections and
# has perf look at the server meanwhile. Writes target/flame.svg, and target/flame.folded for other tools.
#
#   flame.sh        RUNTIME=python3.13 SECONDS_LONG=15 CONNECTIONS=8 PROFILE=release
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

cd "$ROOT"
# shellcheck source=scripts/watched.sh
. scripts/watched.sh

LENGTH=${SECONDS_LONG:-15}
CONNECTIONS=${CONNECTIONS:-8}

command -v perf >/dev/null || die "perf is missing: install linux-perf (Debian) or linux-tools-$(uname -r) (Ubuntu)"
# What is copied of a stack for unwinding. Frames of a build that is not optimised are large: as much as perf can copy goes from a call's code to
# that of its task, not to where the thread begins.
stack=16384
[ "$PROFILE" != dev ] || stack=65528
prepare
start_watched flame

say "Load for $LENGTH s, watched for all of it but the beginning"
"$program" bench --function flame --data '{"name": "flame"}' --connections "$CONNECTIONS" \
    --warm-up 3s --length "$((LENGTH + 2))s" &
load=$!
# The warm-up, and its first calls.
sleep 4
# By the processor's clock, because virtual machines have no counters; stacks by unwinding, because neither these builds nor libc keep frame
# pointers.
as_root perf record --quiet -e cpu-clock -F 499 --call-graph "dwarf,$stack" -p "$pid" \
    -o "$work/perf.data" -- sleep "$((LENGTH - 2))" >"$work/perf.log" 2>&1 || die "perf: $(cat "$work/perf.log")"
wait "$load"

say "Drawing"
as_root perf script -i "$work/perf.data" --no-inline 2>/dev/null | python3 scripts/flame.py fold >"$target/flame.folded"
python3 scripts/flame.py draw <"$target/flame.folded" >"$target/flame.svg"
cut=$(awk -v OFMT=%.0f '{ n += $NF } /;\(cut off\);/ { c += $NF } END { print n ? 100 * c / n : 0 }' "$target/flame.folded")
[ "$cut" -lt 10 ] || note "of $cut % of the samples the outer frames are not known: they are under (cut off)"
note "$target/flame.svg: $(awk '{ n += $NF } END { print n }' "$target/flame.folded") samples of process $pid, hearth $(revision)"
