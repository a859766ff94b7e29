#!/usr/bin/env bash
# Uses the dashboard as a person would, in a real browser without a window: everything a page promises, what it must never do, and how it
# looks, on a phone and a desk, light and dark. The pictures stay in target/dashboard-shots; the README's is code-light-1440.png of them.
#
# Starts a server of its own, needs a Docker engine, Node.js and a Chromium, which is installed where there is none.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/../../scripts/prelude.sh"
# shellcheck source=tests/server.sh
. "$ROOT/tests/server.sh"

tests=""
frozen=""

end_tests() {
    local status=$?
    set +e
    [ -z "$frozen" ] || freeze
    [ -z "$tests" ] || kill "$tests" 2>/dev/null
    end_suite "$status"
}
trap end_tests EXIT

tests/tools.sh dashboard
scripts/dashboard.sh
build_server
serve_pages() { serve "$1" --set pool.stem_min=1 --set pool.stem_max=2 --set server.failed_keys=3; }
# What a page does when Hearth is started again under it: a test asks for it with a signal.
start_again() {
    stop_server
    serve_pages "${url#http://}"
}

# And when it stands still, with everything open; or goes on again.
freeze() {
    local pid
    pid=$(as_root python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["pid"])' "$work/state/instance.json")
    if [ -z "$frozen" ]; then frozen=1; as_root kill -STOP "$pid"; else frozen=""; as_root kill -CONT "$pid"; fi
}

serve_pages 127.0.0.1:0
await_server
await_ready

# One of the images that are there, to be looked at.
image=$($(docker_prefix) $(docker_client) images --quiet --filter label=hearth.runtime=provided | head -n 1)
mkdir -p "$built/dashboard-shots"
trap start_again USR1
trap freeze USR2
# Not `within`: its number would be that of a shell around it.
TEST_IMAGE=$image TEST_URL=$url TEST_KEY=$key TEST_ENV=$(as_root "$built/debug/hearth" env --state-dir "$work/state" --json) TEST_BROWSER=$(browser) TEST_SHOTS=$built/dashboard-shots TEST_RUNNER=$$ \
    timeout --kill-after=5 "${DASHBOARD_TIMEOUT:-900}" node --test --test-concurrency=1 --test-reporter=spec tests/dashboard/*.test.mjs &
tests=$!
# A signal ends the wait, and not the tests.
status=0
while kill -0 "$tests" 2>/dev/null; do
    wait "$tests" && status=0 || status=$?
done
tests=""
exit "$status"
