#!/usr/bin/env bash
# `make down`: stops the instance and, if `make up` started the Docker engine, the engine. Deployed
# functions are kept for the next `make up`; `down.sh --forget` removes them, keys and logs too.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

"$ROOT/scripts/instance.sh" stop
"$ROOT/scripts/engine.sh" stop "$HEARTH_STATE_DIR/engine.record"
if [ "${1:-}" = --forget ]; then
    say "Removing $HEARTH_STATE_DIR"
    as_root rm -rf "$HEARTH_STATE_DIR"
fi
