#!/usr/bin/env bash
# Builds the shim and puts it where the Dockerfile takes it from. Does nothing, at once, while its sources are older than it.
set -euo pipefail
cd "$(dirname "$0")"

if [ -x bin/shim ] && [ -z "$(find build.sh shim -newer bin/shim -print -quit)" ]; then
    exit 0
fi
# Static, so that it runs whatever the image has; the libc for that comes with the C compiler.
target=$(rustc -vV | sed -n 's/^host: //p')
built=${CARGO_TARGET_DIR:-../../target}/provided-shim
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --locked --release \
    --manifest-path shim/Cargo.toml --target "$target" --target-dir "$built"
mkdir -p bin
# Renamed when complete: others may be building an image from it.
cp "$built/$target/release/shim" "bin/.shim.$$"
chmod 755 "bin/.shim.$$"
touch "bin/.shim.$$"
mv "bin/.shim.$$" bin/shim
