#!/usr/bin/env bash
# Brings a fresh Debian or Ubuntu machine to where hearth can be built and run: packages, a running
# Docker engine, the base image. Finds out first what is there; on a machine that has everything it
# does nothing and takes a second.
#
#   setup.sh RECORD     RECORD is where engine.sh notes an engine that had to be started
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

RECORD=${1:?usage: setup.sh RECORD}

engine_answers() { "$ROOT/scripts/engine.sh" status; }

# What is needed and not there, as Debian packages.
missing_packages() {
    command -v cc >/dev/null || echo build-essential
    command -v curl >/dev/null || echo curl ca-certificates
    command -v python3 >/dev/null || echo python3
    # Only the tests make an environment of Python packages. Debian has that in a package of its own.
    python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
    command -v node >/dev/null || echo nodejs
    [ -n "${SKIP_DASHBOARD:-}" ] || command -v npm >/dev/null || echo npm
    # Only the tests start these.
    command -v redis-server >/dev/null || echo redis-server
    command -v strace >/dev/null || echo strace
    command -v promtool >/dev/null || echo prometheus
    command -v docker-compose >/dev/null || echo docker-compose
    if ! command -v docker >/dev/null || { [ "$1" = no ] && ! command -v dockerd >/dev/null; }; then
        # Newer releases keep the client in a package of its own; where there is none, a pattern
        # that matches nothing is no error.
        echo "docker.io iptables ?exact-name(docker-cli)"
    fi
}

# Rust is not taken from the distribution: what Debian has is older than what the crate asks for.
require_rust() {
    command -v cargo >/dev/null && return
    [ -z "$DRY_RUN" ] || { note "Rust is missing: see https://rustup.rs"; return; }
    die "Rust is missing. Install it and start again:
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
}

# An engine that is there and silent is somebody's; starting a second one beside it mends nothing.
refuse_silent_engine() {
    if [ -n "${DOCKER_HOST:-}" ]; then
        die "DOCKER_HOST is $DOCKER_HOST, but no engine answers there"
    fi
    local pid
    pid=$(as_root cat /var/run/docker.pid 2>/dev/null || true)
    if [ -n "$pid" ] && [[ $(program_of "$pid") == */dockerd ]]; then
        die "dockerd runs (pid $pid) but does not answer. Version 20.10 is known to deadlock for good
    (moby issue 46661); it has to be restarted: sudo systemctl restart docker"
    fi
}

start_engine() {
    if ! may_be_root && [ -z "$DRY_RUN" ]; then
        die "no Docker engine answers, and starting one needs root. Run this and start again:
    sudo systemctl start docker && sudo usermod -aG docker $(id -un) && newgrp docker"
    fi
    run "$ROOT/scripts/engine.sh" start "$RECORD"
}

say "Looking at this machine"
require_rust
running=no
engine_answers && running=yes
mapfile -t packages < <(missing_packages "$running" | tr ' ' '\n')
if [ "${#packages[@]}" -gt 0 ]; then
    install_packages "${packages[@]}"
    # Where services are started by their installation, this one is ours to stop again.
    if [ "$running" = no ] && [ -z "$DRY_RUN" ] && wait_for 5 engine_answers; then
        "$ROOT/scripts/engine.sh" adopt "$RECORD"
        running=yes
    fi
fi
if [ "$running" = yes ]; then
    note "A Docker engine answers; using it"
else
    refuse_silent_engine
    start_engine
fi
"$ROOT/scripts/base-image.sh"
