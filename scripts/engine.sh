#!/usr/bin/env bash
# The Docker engine that these scripts run where none runs: start it, stop it, ask about it.
# An engine somebody else started is used and never touched: only the pid recorded in our own
# record file is ever signalled.
#
#   engine.sh status          exit 0 when an engine answers
#   engine.sh start RECORD    start one and write to the file RECORD how to stop it
#   engine.sh adopt RECORD    write that file for an engine that our own installation started
#   engine.sh stop RECORD     stop the one RECORD speaks of; nothing to do without that file
#
# The socket and the pid file are Docker's usual ones, so that every Docker client finds the engine
# and a second dockerd refuses to start beside it. Its data is our own: starting an engine on
# somebody's /var/lib/docker would also start the containers they had stopped it to be rid of.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

DATA_ROOT=${ENGINE_DATA_ROOT:-/var/lib/hearth-engine}
EXEC_ROOT=${ENGINE_EXEC_ROOT:-/var/run/hearth-engine}
LOG=${ENGINE_LOG:-/var/log/hearth-engine.log}
PID_FILE=/var/run/docker.pid

# A ping answers even on an engine whose network code is deadlocked; listing networks does not.
answers() { docker_client >/dev/null && docker_within 20 network ls -q >/dev/null 2>&1; }

is_dockerd() { [[ $(program_of "$1") == */dockerd ]]; }

has_systemd() { [ -d /run/systemd/system ]; }

record() { as_root mkdir -p "$(dirname "$2")" && echo "$1" | as_root tee "$2" >/dev/null; }

adopt() {
    if has_systemd; then record service "$1"; else record "$(as_root cat "$PID_FILE")" "$1"; fi
}

start_process() {
    note "\$ dockerd --data-root $DATA_ROOT --exec-root $EXEC_ROOT   (log: $LOG)"
    [ -z "$DRY_RUN" ] || return 0
    # The redirections are made by root, the log is root's.
    # shellcheck disable=SC2016  # expanded by the inner shell
    as_root setsid bash -c 'exec nohup dockerd --data-root "$1" --exec-root "$2" >"$3" 2>&1 </dev/null &' \
        dockerd "$DATA_ROOT" "$EXEC_ROOT" "$LOG"
    if ! wait_for 60 as_root test -s "$PID_FILE"; then
        as_root tail -n 20 "$LOG" >&2
        die "dockerd did not start; its log is $LOG"
    fi
}

start() {
    say "Starting a Docker engine"
    if has_systemd; then run as_root systemctl start docker.service; else start_process; fi
    [ -z "$DRY_RUN" ] || return 0
    adopt "$1"
    if ! wait_for 60 answers; then
        as_root tail -n 20 "$LOG" >&2 || true
        die "the Docker engine was started but does not answer"
    fi
}

stop_process() {
    local pid=$1
    if is_dockerd "$pid"; then
        say "Stopping the Docker engine that was started here (pid $pid)"
        as_root kill -TERM "$pid"
        if ! wait_for 40 test ! -d "/proc/$pid"; then
            as_root kill -KILL "$pid"
            wait_for 10 test ! -d "/proc/$pid" || die "dockerd (pid $pid) does not end"
        fi
    fi
    # Its containerd ends with it, unless it had to be killed.
    local child
    child=$(as_root cat "$EXEC_ROOT/containerd/containerd.pid" 2>/dev/null || true)
    if [ -n "$child" ] && [[ $(program_of "$child") == */containerd ]]; then
        as_root kill -TERM "$child"
        wait_for 20 test ! -d "/proc/$child" || as_root kill -KILL "$child"
    fi
    unmount_below "$EXEC_ROOT"
    unmount_below "$DATA_ROOT"
    # dockerd binds its data directory to itself and leaves it so. A root other than "/" tells that
    # mount from a file system somebody mounted there.
    if awk -v at="$(readlink -f "$DATA_ROOT")" '$5 == at && $4 != "/" { found = 1 } END { exit !found }' \
        /proc/self/mountinfo; then
        # The kernel may still be letting go of what the last containers had open.
        wait_for 10 as_root umount "$DATA_ROOT" || as_root umount -l "$DATA_ROOT"
    fi
    as_root rm -rf "$EXEC_ROOT"
    as_root rm -f /var/run/docker.sock "$PID_FILE"
}

stop() {
    local record=$1 how
    how=$(as_root cat "$record" 2>/dev/null || true)
    case $how in
    "") return 0 ;;
    service)
        say "Stopping the Docker service that was started here"
        as_root systemctl stop docker.service docker.socket
        ;;
    *) stop_process "$how" ;;
    esac
    as_root rm -f "$record"
}

case "${1:-} ${2:-}" in
"status ") answers ;;
"start "?*) start "$2" ;;
"adopt "?*) adopt "$2" ;;
"stop "?*) stop "$2" ;;
*) die "usage: engine.sh status | {start|adopt|stop} RECORD" ;;
esac
