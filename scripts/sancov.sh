#!/usr/bin/env bash
# Compiles this repository's own crates so that a fuzzer sees where an input leads: cargo's RUSTC_WORKSPACE_WRAPPER. What they depend
# on stays as it is, and is not compiled again. All of these are flags of a stable compiler.
set -euo pipefail
# What runs while building runs without a fuzzer.
case " $* " in *" --crate-name build_script_build "*) exec "$@" ;; esac
exec "$@" \
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=16
