#!/usr/bin/env bash
# Builds the contract's bootstrap in Rust, for the tests; nothing else needs it. Does nothing, at once, while its sources are older.
set -euo pipefail
cd "$(dirname "$0")"

if [ -x rust/bin/bootstrap ] && [ -z "$(find build.sh rust/Cargo.* rust/src -newer rust/bin/bootstrap -print -quit)" ]; then
    exit 0
fi
# Static like the shim: the machine it is built on may have a newer libc than the image.
target=$(rustc -vV | sed -n 's/^host: //p')
built=${CARGO_TARGET_DIR:-../../../target}/provided-contract
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --locked \
    --manifest-path rust/Cargo.toml --target "$target" --target-dir "$built"
mkdir -p rust/bin
cp "$built/$target/debug/bootstrap" rust/bin/bootstrap
chmod 755 rust/bin/bootstrap
touch rust/bin/bootstrap
