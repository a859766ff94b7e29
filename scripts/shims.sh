#!/usr/bin/env bash
# Builds what the runtimes' images are made of and is not in the repository: runs the build.sh of
# every folder under runtimes/ that has one. Each does nothing while its sources are unchanged.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

for script in "$ROOT"/runtimes/*/build.sh; do
    [ -x "$script" ] || continue
    say "Building the shim of $(basename "$(dirname "$script")")"
    run "$script"
done
