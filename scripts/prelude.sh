# shellcheck shell=bash
# What every script here starts from: the settings with their defaults, and the few verbs that say
# what is done before doing it. Sourced, never run.
#
# Settings, all from the environment (the Makefile passes them on):
#   DRY_RUN=1         show the steps, do none
#   HEARTH_STATE_DIR  state of the instance that `make up` runs   (default: .state in the checkout)
#   BASE_IMAGE_CACHE  a copy of the base image, slow to make again  (default: ~/.cache/hearth)
#                     (not HEARTH_…: hearth reads those as its configuration and refuses unknown keys)
#   SKIP_DASHBOARD=1  build no dashboard: for machines without Node.js or a package registry
#   DOCKER_HOST       an engine of your own (a unix:// socket); then none is installed or started

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DRY_RUN=${DRY_RUN:-}
HEARTH_STATE_DIR=${HEARTH_STATE_DIR:-$ROOT/.state}
BASE_IMAGE_CACHE=${BASE_IMAGE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/hearth}
case $HEARTH_STATE_DIR in /*) ;; *) HEARTH_STATE_DIR=$PWD/$HEARTH_STATE_DIR ;; esac

say() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Shows a step, and does it unless this is a dry run.
run() {
    case $1 in
    docker_within) note "\$ docker ${*:3}" ;;
    as_root) note "\$ ${*:2}" ;;
    *) note "\$ $*" ;;
    esac
    [ -n "$DRY_RUN" ] || "$@"
}

# build_hearth PROFILE OPTION…: the binary. A debug build is made with what the tests depend on: that gives some libraries more features, and
# with others they, and all that is built on them, would be compiled once for the tests and once for the suites that start a server.
build_hearth() {
    local profile=$1 with=()
    shift
    [ "$profile" != dev ] || with=(--test tidy)
    run cargo build --locked --profile "$profile" --manifest-path "$ROOT/Cargo.toml" --bin hearth "${with[@]}" "$@"
}

# Root if we are, else sudo that asks nothing. A prompt in the middle of a script is a hang in CI.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Installs Debian packages, or says what to run where that is not ours to do.
install_packages() {
    local missing=""
    [ -n "$(command -v apt-get)" ] || missing="there is no apt-get here"
    may_be_root || missing="this needs root, and sudo would ask for a password"
    if [ -n "$missing" ] && [ -z "$DRY_RUN" ]; then
        printf 'error: packages are missing and cannot be installed: %s. Run this and start again:\n' \
            "$missing" >&2
        printf '    sudo apt-get update\n    sudo apt-get install -y %s\n' "${*@Q}" >&2
        exit 1
    fi
    say "Installing $*"
    run as_root apt-get update -qq
    note "\$ apt-get install -y --no-install-recommends ${*@Q}"
    [ -z "$DRY_RUN" ] || return 0
    # What dpkg says of each package is noise here; its errors go to stderr.
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

may_be_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

# `within SECONDS program…`: no external program may wait for ever; an engine can be wedged. (Programs
# only: timeout knows nothing of the functions here.)
within() {
    local seconds=$1
    shift
    timeout --kill-after=5 "$seconds" "$@"
}

# A user outside the docker group reaches the engine through sudo, if that works without asking.
docker_prefix() {
    if [ "$(id -u)" != 0 ] && [ -z "${DOCKER_HOST:-}" ] && [ ! -w /var/run/docker.sock ]; then
        echo "sudo -n"
    fi
}

# The first client that the engine understands. Several may be installed, and a new client refuses
# an old engine (29 does not talk to 20.10), so the first on the PATH is not always the right one.
docker_client() {
    local prefix candidate
    read -ra prefix <<<"$(docker_prefix)"
    for candidate in "$(command -v docker || true)" /usr/bin/docker /usr/local/bin/docker; do
        [ -x "$candidate" ] || continue
        if within 20 "${prefix[@]}" "$candidate" version >/dev/null 2>&1; then
            echo "$candidate"
            # Within a trap a bare return gives the status of before the trap.
            return 0
        fi
    done
    return 1
}

# `docker_within SECONDS arguments…`
docker_within() {
    local seconds=$1 prefix
    shift
    read -ra prefix <<<"$(docker_prefix)"
    DOCKER_CLIENT=${DOCKER_CLIENT:-$(docker_client)} || die "no Docker engine answers"
    within "$seconds" "${prefix[@]}" "$DOCKER_CLIENT" "$@"
}

# Removes the containers with a label and prints how many there were. An engine that is slow just now is asked again.
remove_containers_with() {
    local containers
    for _ in 1 2 3; do
        containers=$(docker_within 60 ps -aq --filter "label=$1") || continue
        # shellcheck disable=SC2086  # ids have no spaces
        [ -z "$containers" ] || docker_within 120 rm -f $containers >/dev/null || continue
        wc -w <<<"$containers"
        return 0
    done
    return 1
}

# Every mount below a directory, for what a killed engine or instance could not unmount itself.
unmount_below() {
    local below
    below=$(readlink -f "$1")
    awk -v below="$below/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r target; do as_root umount -l "$target" || true; done
}

# The program a process runs, without the mark the kernel adds once the file is replaced.
program_of() {
    local exe
    exe=$(as_root readlink "/proc/$1/exe" 2>/dev/null) || return 1
    echo "${exe% (deleted)}"
}

# Waits until a command succeeds, at most so many seconds: `wait_for SECONDS command…`
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

# The browser that is here.
browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
