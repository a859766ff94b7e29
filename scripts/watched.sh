# shellcheck shell=bash
# The server that flame.sh and instructions.sh look at: one of its own, with config/bench.toml, a temporary state directory and a free port,
# which ends with the script, and its containers before it. Sourced after prelude.sh, from the checkout, never run.
#
# Settings, from the environment: PROFILE=release RUNTIME=python3.13

PROFILE=${PROFILE:-release}
RUNTIME=${RUNTIME:-python3.13}

unset HEARTH_URL HEARTH_KEY PORT
# There is nothing to see where nothing is done.
DRY_RUN=
work=$(mktemp -d "${TMPDIR:-/tmp}/hearth-watched.XXXXXX")
export HEARTH_STATE_DIR=$work/state
# Where cargo puts things, the program, and the server's process.
target=${CARGO_TARGET_DIR:-target}
case $PROFILE in dev) program=$target/debug/hearth ;; *) program=$target/$PROFILE/hearth ;; esac
pid=
# What was started: the server, or sudo with it.
begun=

gone() { ! as_root kill -0 "$pid"; }

end_watched() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    set +e
    # It may have been started a moment ago, and not found yet.
    [ -n "$pid" ] || announced 2>/dev/null || pid=$begun
    if [ -n "$pid" ]; then
        as_root kill -TERM "$pid"
        wait_for 60 gone || { echo "error: the server (pid $pid) does not end" >&2; status=1; }
    fi
    scripts/engine.sh stop "$work/engine.record" >"$work/clean-up.log" 2>&1 || status=1
    [ "$status" = 0 ] || cat "$work/clean-up.log" >&2
    as_root rm -rf "$work"
    exit "$status"
}
trap end_watched EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# prepare: what is missing is installed and started, and the program is built.
prepare() {
    scripts/setup.sh "$work/engine.record"
    may_be_root || die "making workers' directories needs root"
    say "Building ($PROFILE)"
    build_hearth "$PROFILE"
}

announced() { pid=$(as_root sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$HEARTH_STATE_DIR/instance.json") && [ -n "$pid" ]; }
ready() { "$program" list; }

# start_watched NAME [WRAPPER…]: the server, run by a program that looks at it, and the runtime's template in it by that name.
start_watched() {
    local name=$1
    shift
    local root=() settings
    [ "$(id -u)" = 0 ] || root=(sudo -n)
    "${root[@]}" env HEARTH_STATE_DIR="$HEARTH_STATE_DIR" "$@" "$program" serve --config config/bench.toml \
        --runtimes runtimes --listen 127.0.0.1:0 >"$work/log" 2>&1 &
    begun=$!
    wait_for 120 announced || die "hearth did not start: $(cat "$work/log")"
    # The state directory is root's, so who calls needs what is in it.
    wait_for 60 as_root test -s "$HEARTH_STATE_DIR/admin.key" || die "hearth made no key: $(cat "$work/log")"
    settings=$(as_root "$program" env --state-dir "$HEARTH_STATE_DIR")
    eval "$settings"
    wait_for 900 ready || die "hearth did not become ready: $(cat "$work/log")"
    "$program" deploy "runtimes/$RUNTIME/template" --name "$name" --runtime "$RUNTIME" >/dev/null
}

revision() { git describe --always --dirty 2>/dev/null || echo unknown; }
