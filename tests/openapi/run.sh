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

cd "$ROOT"
examples=${1:-15}
built=${CARGO_TARGET_DIR:-target}
tool=$built/schemathesis
work=$(mktemp -d "${TMPDIR:-/tmp}/hearth-openapi.XXXXXX")
server=""

clean_up() {
    local status=$?
    trap - EXIT
    set +e
    if [ -n "$server" ]; then
        as_root kill "$server" 2>/dev/null
        # It removes its containers before it ends.
        wait "$server" || status=1
    fi
    [ "$status" = 0 ] || tail -n 40 "$work/log" >&2
    as_root rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if ! cmp -s tests/openapi/requirements.txt "$tool/installed.txt"; then
    note "installing schemathesis in $tool"
    rm -rf "$tool"
    within 60 python3 -m venv "$tool"
    within 300 "$tool/bin/pip" install --quiet --disable-pip-version-check --requirement tests/openapi/requirements.txt
    cp tests/openapi/requirements.txt "$tool/installed.txt"
fi

cargo build --locked --quiet --bin hearth
runtimes/provided/build.sh
# Not through a function: its number would be that of a shell around it.
root=()
[ "$(id -u)" = 0 ] || root=(sudo -n)
"${root[@]}" "$built/debug/hearth" serve --state-dir "$work/state" --listen 127.0.0.1:0 --runtimes runtimes \
    --set pool.stem_min=1 --set pool.stem_max=1 2>"$work/log" &
server=$!
announced() { as_root test -s "$work/state/instance.json" && as_root test -s "$work/state/admin.key"; }
wait_for 60 announced || die "no server"
url=$(as_root python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["url"])' "$work/state/instance.json")
key=$(as_root cat "$work/state/admin.key")
# The first start on a machine builds the runtimes' images.
wait_for 900 within 5 curl -fsS "$url/readyz" || die "never ready"

# From the directory for its own files.
try() {
    (cd "$work" && within 600 "$tool/bin/schemathesis" --config-file "$ROOT/tests/openapi/schemathesis.toml" \
        run "$url/openapi.json" --header "Authorization: Bearer $key" --max-examples "$examples" \
        --seed 1 --request-timeout 30 --no-color "$@")
}
case $tool in /*) ;; *) tool=$PWD/$tool ;; esac
# It deletes what it finds, and among the keys it would find its own.
try --exclude-operation-id revoke_key
try --include-operation-id revoke_key --phases examples,coverage,fuzzing
