# For the suites that use a running server as its users do; sourced after the prelude. Starts one from the debug build, in a directory of
# its own, and stops it when the suite ends, however it ends.
# shellcheck shell=bash
cd "$ROOT"
built=${CARGO_TARGET_DIR:-target}
case $built in /*) ;; *) built=$PWD/$built ;; esac
work=$(mktemp -d "${TMPDIR:-/tmp}/hearth-suite.XXXXXX")
server=""

build_server() {
    build_hearth dev --quiet
    runtimes/provided/build.sh
}

# serve LISTEN OPTION…: sets its number, so not to be called in a shell of its own.
serve() {
    local listen=$1 root=()
    shift
    [ "$(id -u)" = 0 ] || root=(sudo -n)
    "${root[@]}" "$built/debug/hearth" serve --state-dir "$work/state" --listen "$listen" --runtimes runtimes "$@" 2>>"$work/log" &
    server=$!
}

# Waits until it listens, and sets `url` and `key`.
await_server() {
    wait_for 60 announced || die "no server"
    url=$(as_root python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["url"])' "$work/state/instance.json")
    key=$(as_root cat "$work/state/admin.key")
}
announced() { as_root test -s "$work/state/instance.json" && as_root test -s "$work/state/admin.key"; }

# The first start on a machine builds the runtimes' images.
await_ready() { wait_for 900 within 5 curl -fsS "$url/readyz" || die "never ready"; }

# It removes its containers before it ends, or says that the engine was too slow for that.
stop_server() {
    local number=$server left
    server=""
    as_root kill "$number" 2>/dev/null
    wait "$number" || { echo "error: the server did not end well" >&2; return 1; }
    left=$(remove_containers_with "hearth.instance=$(as_root cat "$work/state/instance")")
    [ "${left:-0}" != 0 ] || return 0
    grep "for the next start" "$work/log" >&2 && return 0
    echo "error: the server left $left containers behind and did not say so" >&2
    return 1
}

# end_suite [STATUS]
end_suite() {
    local status=${1:-$?}
    trap - EXIT USR1 USR2
    set +e
    [ -z "$server" ] || stop_server || status=1
    [ "$status" = 0 ] || tail -n 40 "$work/log" >&2
    as_root rm -rf "$work"
    exit "$status"
}
trap end_suite EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
