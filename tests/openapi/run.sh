#!/usr/bin/env bash
# Sends what the OpenAPI document allows, and what it does not, to a running server with the admin's key: no answer may be a 5xx, and each
# must be one that the document knows, down to its headers and fields. The requests are generated, always the same ones.
#
#   run.sh [EXAMPLES]     for each operation; 15 if left out
#
# Starts a server of its own, needs a Docker engine, and keeps schemathesis in target/.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/../../scripts/prelude.sh"
# shellcheck source=tests/server.sh
. "$ROOT/tests/server.sh"

examples=${1:-15}
tool=$built/schemathesis

tests/tools.sh openapi

build_server
serve 127.0.0.1:0 --set pool.stem_min=1 --set pool.stem_max=1
await_server
await_ready

# From the directory for its own files.
try() {
    (cd "$work" && within 600 "$tool/bin/schemathesis" --config-file "$ROOT/tests/openapi/schemathesis.toml" \
        run "$url/openapi.json" --header "Authorization: Bearer $key" --max-examples "$examples" \
        --seed 1 --request-timeout 30 --no-color "$@")
}
# It deletes what it finds, and among the keys it would find its own.
try --exclude-operation-id revoke_key
try --include-operation-id revoke_key --phases examples,coverage,fuzzing
