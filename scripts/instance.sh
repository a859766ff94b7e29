#!/usr/bin/env bash
# The one hearth instance that belongs to a state directory: start it, stop it, ask about it.
#
#   instance.sh start BINARY   start BINARY unless it runs already; returns when it is ready
#   instance.sh stop           stop it, and remove what it left behind
#   instance.sh env            shell settings for it: address, key, PATH
#   instance.sh logs           follow its log
#   instance.sh run ARGS…      the CLI of the running binary, pointed at this instance
#
# The instance runs as root: it makes directories that belong to the user its workers run as.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

LISTEN=127.0.0.1:${PORT:-8080}
PID_FILE=$HEARTH_STATE_DIR/hearth.pid
LISTEN_FILE=$HEARTH_STATE_DIR/hearth.listen
LOG=$HEARTH_STATE_DIR/hearth.log
# The first start builds an image per runtime; hearth gives each build 15 minutes itself.
READY_SECONDS=${READY_SECONDS:-1800}

# Prints the pid of the running instance.
pid_of_instance() {
    local pid
    pid=$(as_root cat "$PID_FILE" 2>/dev/null) || return 1
    # Pids are reused: a stranger with this number is not our instance.
    [[ $(program_of "$pid") == */hearth ]] || return 1
    echo "$pid"
}

is_ready() { curl -fs -o /dev/null -m 5 "http://$LISTEN/readyz"; }

# Somebody else's server on our port would answer in our place.
is_taken() { (exec 3<>"/dev/tcp/${LISTEN%:*}/${LISTEN#*:}") 2>/dev/null; }

# True when what runs is what was asked for: this binary, not replaced by a build since, there.
is_current() {
    [ "$(as_root readlink "/proc/$1/exe")" = "$(readlink -f "$2")" ] &&
        [ "$(as_root cat "$LISTEN_FILE" 2>/dev/null)" = "$LISTEN" ]
}

is_up_or_gone() { is_ready || ! pid_of_instance; }

start() {
    local binary=$1 pid engine_option=()
    if pid=$(pid_of_instance); then
        if is_current "$pid" "$binary" && is_ready; then
            say "hearth runs already (pid $pid)"
            return
        fi
        say "hearth was built again or is to listen elsewhere: restarting it"
        stop
    fi
    ! is_taken || die "something else listens on $LISTEN; choose another port: make up PORT=8081"
    case ${DOCKER_HOST:-} in
    unix://*) engine_option=(--set "engine.socket=${DOCKER_HOST#unix://}") ;;
    esac
    say "Starting hearth on $LISTEN (the first start builds the runtimes' images, a minute or two)"
    as_root mkdir -p -m 700 "$HEARTH_STATE_DIR"
    as_root mv -f "$LOG" "$LOG.1" 2>/dev/null || true
    echo "$LISTEN" | as_root tee "$LISTEN_FILE" >/dev/null
    # A session of its own, so that neither Ctrl-C nor the end of make reaches it.
    # shellcheck disable=SC2016  # expanded by the inner shell
    as_root setsid --fork bash -c 'echo $$ >"$1"; log=$2; shift 2; exec "$@" >"$log" 2>&1 </dev/null' \
        hearth "$PID_FILE" "$LOG" \
        "$binary" serve --state-dir "$HEARTH_STATE_DIR" --listen "$LISTEN" \
        --set "runtimes.dir=$ROOT/runtimes" "${engine_option[@]}"
    wait_for 10 as_root test -s "$PID_FILE" || die "hearth was not started"
    if ! wait_for "$READY_SECONDS" is_up_or_gone || ! is_ready; then
        as_root tail -n 30 "$LOG" >&2
        die "hearth did not become ready; its log is $LOG"
    fi
}

remove_containers() {
    local instance
    instance=$(as_root cat "$HEARTH_STATE_DIR/instance" 2>/dev/null) || return 0
    # Where no engine runs, there is nothing to remove.
    docker_client >/dev/null || pgrep -x dockerd >/dev/null || return 0
    remove_containers_with "hearth.instance=$instance" >/dev/null || die "containers of hearth are left: the engine does not answer"
}

stop() {
    local pid
    if pid=$(pid_of_instance); then
        say "Stopping hearth (pid $pid): calls under way may finish"
        as_root kill -TERM "$pid"
        if ! wait_for 90 test ! -d "/proc/$pid"; then
            note "it does not end; killing it"
            as_root kill -KILL "$pid"
            wait_for 10 test ! -d "/proc/$pid" || die "hearth (pid $pid) does not end"
        fi
    fi
    remove_containers
    [ -d "$HEARTH_STATE_DIR" ] || return 0
    unmount_below "$HEARTH_STATE_DIR"
    as_root find "$HEARTH_STATE_DIR" -type s -delete
    as_root rm -f "$PID_FILE" "$LISTEN_FILE"
}

env_of_instance() {
    local pid binary
    pid=$(pid_of_instance) || die "no instance runs on $HEARTH_STATE_DIR; start one with: make up"
    binary=$(program_of "$pid")
    # This instance's, whatever other one the caller's shell points at.
    as_root env -u HEARTH_URL -u HEARTH_KEY "$binary" env --state-dir "$HEARTH_STATE_DIR"
    # shellcheck disable=SC2016  # for the shell that evaluates it
    printf 'export PATH=%q:"$PATH"\n' "$(dirname "$binary")"
}

case "${1:-}" in
start) start "${2:?usage: instance.sh start BINARY}" ;;
stop) stop ;;
env) env_of_instance ;;
logs) as_root tail -n 50 -F "$LOG" ;;
run)
    shift
    settings=$(env_of_instance)
    eval "$settings"
    exec hearth "$@"
    ;;
*) die "usage: instance.sh start BINARY | stop | env | logs | run ARGS…" ;;
esac
