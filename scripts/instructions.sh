#!/usr/bin/env bash
# `make instructions`: how many instructions of the server a warm call takes, and whose. A Hearth of its own runs under valgrind's callgrind;
# what a short and a long run of calls over one connection differ by is what calls take, so that connecting and looking around cancel out.
# Counted and not timed: two runs differ by a percent or two, on any machine. The kernel's part and the worker's are not in it.
#
#   instructions.sh     PROFILE=release RUNTIME=python3.13 CALLS=1000 PLACES=25
#
# Leaves target/instructions.few and target/instructions.many, what callgrind wrote, for callgrind_annotate and kcachegrind.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"
cd "$ROOT"
# shellcheck source=scripts/watched.sh
. scripts/watched.sh

CALLS=${CALLS:-1000}
PLACES=${PLACES:-25}
FEW=100

# So many calls, one after the other over one connection; all of them, and none may fail.
calls() {
    "$program" bench --function counted --data '{"name": "counted"}' --calls "$1" --connections 1 --warm-up 0s --length 900s \
        --fail-if 'errors>0' --fail-if "calls<$1" >"$work/calls.log" 2>&1 || die "calls: $(cat "$work/calls.log")"
}

control() { as_root callgrind_control "$@" "$pid" >"$work/control.log" 2>&1 || die "callgrind_control $*: $(cat "$work/control.log")"; }

# measured CALLS NAME: what so many calls take, as target/instructions.NAME
measured() {
    local dump
    control -z
    calls "$1"
    control --dump
    # Written when the command returns. The empty file without a number is for the process's end.
    dump=$(as_root find "$work" -name 'callgrind.out.*' -size +0)
    [ -n "$dump" ] || die "callgrind wrote nothing: $(cat "$work/log")"
    as_root cat "$dump" >"$target/instructions.$2"
    as_root rm "$dump"
}

command -v callgrind_control >/dev/null || install_packages valgrind
prepare
say "Starting it under callgrind"
start_watched counted valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file="$work/callgrind.out"
# The worker is there, every path was taken, every table has grown.
calls 300
control --instr=on
say "$FEW calls, then $CALLS more than that"
# What was translated before is translated anew, and the first calls after that are as slow as first calls are.
calls 50
measured "$FEW" few
measured "$((FEW + CALLS))" many
for run in few many; do
    callgrind_annotate --threshold=100 --auto=no --show-percs=no "$target/instructions.$run" >"$work/annotated.$run"
done
say "Instructions of a warm call: $RUNTIME, $PROFILE build, one connection, hearth $(revision)"
python3 scripts/instructions.py "$work/annotated.few" "$work/annotated.many" "$CALLS" "$PLACES"
