#!/usr/bin/env bash
# Builds the dashboard into dashboard/dist, from where cargo puts it into the binary. Does nothing while its sources are unchanged. Without it
# the program works too, and says in its place that it was not built.
#
#   dashboard.sh [check]     check: looks at its types as well, as the tests do
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

cd "$ROOT/dashboard"
sources() { find src build.mjs package.json package-lock.json tsconfig.json -type f -print0 | sort -z | xargs -0 cat | sha256sum | cut -c1-32; }
same() { [ -e "$1" ] && [ "$(cat "$1")" = "$2" ]; }

now=$(sources)
if same dist/stamp "$now" && [ "${1:-}" != check ]; then exit 0; fi
say "Building the dashboard"
if [ -z "$DRY_RUN" ]; then
    node=$(node --version 2>/dev/null | sed 's/^v//')
    # Vite's own requirement.
    printf '%s\n' 20.19 "${node:-0}" | sort -V -C && command -v npm >/dev/null ||
        die "the dashboard is built with Node.js 20.19 or newer and npm; here is ${node:+Node.js }${node:-none}. Without it: SKIP_DASHBOARD=1"
fi
lock=$(sha256sum package-lock.json | cut -c1-32)
if ! same node_modules/.lock "$lock"; then
    # Once more, because registries have moments.
    run within 300 npm ci --no-audit --no-fund --loglevel=error || run within 300 npm ci --no-audit --no-fund --loglevel=error
    [ -n "$DRY_RUN" ] || echo "$lock" >node_modules/.lock
fi
if ! same dist/stamp "$now"; then
    run within 120 node build.mjs
    [ -n "$DRY_RUN" ] || echo "$now" >dist/stamp
fi
[ "${1:-}" != check ] || run within 300 node_modules/.bin/tsc --noEmit --project .
