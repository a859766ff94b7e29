#!/usr/bin/env bash
# Fuzzes everything that takes apart what comes from outside, led by coverage, all targets at once.
#
#   fuzz.sh [SECONDS] [TARGET…]     SECONDS for each target (default 60); targets: see tests/fuzz/targets.rs
#
# Inputs that lead somewhere new are kept in target/fuzz/corpus from run to run. One that a target does not survive is written to
# target/fuzz/crashes, and fails the run: mend it, then keep the input in fuzz/corpus/TARGET/, where `cargo test` finds it.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

cd "$ROOT"
seconds=${1:-60}
targets=("${@:2}")
[ "${#targets[@]}" -gt 0 ] || targets=(frame zip body route)
built=${CARGO_TARGET_DIR:-target}
out=$built/fuzz

say "Building the fuzzer"
RUSTC_WORKSPACE_WRAPPER=$ROOT/scripts/sancov.sh cargo build --locked --quiet --package hearth-fuzz

say "Fuzzing ${targets[*]}, $seconds s each"
mkdir -p "$out/crashes"
running=()
for target in "${targets[@]}"; do
    mkdir -p "$out/corpus/$target"
    # Its own limits are in the targets: no input here takes a second, or a tenth of this memory.
    FUZZ_TARGET=$target within $((seconds + 120)) "$built/debug/hearth-fuzz" \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$out/crashes/$target-" "$out/corpus/$target" "fuzz/corpus/$target" \
        >"$out/$target.log" 2>&1 &
    running+=("$!")
done
failed=()
for at in "${!targets[@]}"; do
    target=${targets[$at]}
    wait "${running[$at]}" || failed+=("$target")
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$target.log")
    seen=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$out/$target.log" | tail -n 1)
    note "$target: ${runs:-?} inputs, ${seen:-?} places reached"
    # Without coverage nothing leads it, and it finds nothing.
    [ "${seen:-0}" -gt 50 ] || failed+=("$target")
done
for target in "${failed[@]}"; do
    tail -n 60 "$out/$target.log" >&2
done
[ "${#failed[@]}" = 0 ] || die "not survived: ${failed[*]} (inputs in $out/crashes)"
