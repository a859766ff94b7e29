#!/usr/bin/env bash
# Makes sure the image that the runtimes build on exists: base-image.sh [SUITE]
#
# In order: present already; the copy in the cache; the registry, when one is reachable; else built
# here from Debian's packages under the same name, so that no Dockerfile has to know the difference.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

SUITE=${1:-trixie}
IMAGE=debian:$SUITE-slim
# The saved image and not the file system it was made from: an import gets a new id every time, and
# with it every layer that was built on top would have to be built again.
CACHED=$BASE_IMAGE_CACHE/base-$SUITE-$(dpkg --print-architecture 2>/dev/null || uname -m).tar

# 200 or 401 is a registry; anything else is a captive portal or a proxy that says no.
registry_reachable() {
    local status
    status=$(curl -s -o /dev/null -m 8 -w '%{http_code}' https://registry-1.docker.io/v2/) || return 1
    [ "$status" = 200 ] || [ "$status" = 401 ]
}

# minbase is much larger than the official slim image until it is trimmed the same way: no
# documentation, no translations, no package caches, and `docker-clean` so that later RUN steps do
# not fill the caches again. The host's own certificate authorities go in, because behind a proxy
# that signs again nothing inside could be fetched without them; elsewhere there are none.
bootstrap() {
    local work=$1 authorities=/usr/local/share/ca-certificates
    # shellcheck disable=SC2016  # expanded by mmdebstrap's own shell, where $1 is the new root
    local clean='printf "%s\n" "Dir::Cache::pkgcache \"\";" "Dir::Cache::srcpkgcache \"\";" "DPkg::Post-Invoke { \"rm -f /var/cache/apt/archives/*.deb || true\"; };" > "$1/etc/apt/apt.conf.d/docker-clean"; rm -f "$1"/var/cache/apt/*.bin "$1/etc/resolv.conf" "$1/etc/hostname"; printf "#!/bin/sh\nexit 101\n" > "$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"'
    local options=(
        --variant=minbase --mode=root --format=tar --quiet
        --aptopt='Acquire::Languages "none"' --aptopt='Acquire::GzipIndexes "true"'
        --aptopt='Apt::AutoRemove::SuggestsImportant "false"'
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*'
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*'
        --dpkgopt='path-include=/usr/share/doc/*/copyright'
        --customize-hook="$clean"
    )
    # Without this hook an older mmdebstrap lets usrmerge pull in all of perl.
    if [ -d /usr/share/mmdebstrap/hooks/merged-usr ]; then
        options+=(--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include=usr-is-merged)
    fi
    if compgen -G "$authorities/*.crt" >/dev/null; then
        # shellcheck disable=SC2016
        options+=(--customize-hook='mkdir -p "$1'"$authorities"'" && cp '"$authorities"'/*.crt "$1'"$authorities"'/"')
    fi
    if [ -f /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        options+=(--keyring=/usr/share/keyrings/debian-archive-keyring.gpg)
    fi
    if ! as_root timeout --kill-after=10 900 mmdebstrap "${options[@]}" "$SUITE" "$work/root.tar" \
        >"$work/log" 2>&1; then
        tail -n 20 "$work/log" >&2
        die "mmdebstrap could not build $SUITE; is the Debian mirror reachable (apt-get update)?"
    fi
    docker_within 120 import -c 'CMD ["bash"]' "$work/root.tar" "$IMAGE" >/dev/null
}

keep_in_cache() {
    mkdir -p "$BASE_IMAGE_CACHE"
    # Renamed when complete: a copy that was cut short must never be found by the next run.
    docker_within 120 save "$IMAGE" >"$CACHED.part" && mv "$CACHED.part" "$CACHED"
}

if [ -z "$DRY_RUN" ] || docker_client >/dev/null; then
    if docker_within 20 image inspect "$IMAGE" >/dev/null 2>&1; then
        say "Base image $IMAGE is present"
        exit 0
    fi
fi
if [ -f "$CACHED" ]; then
    say "Loading base image $IMAGE from $CACHED"
    run docker_within 120 load --quiet --input "$CACHED"
    exit 0
fi
if registry_reachable; then
    say "Pulling base image $IMAGE"
    if run docker_within 180 pull --quiet "$IMAGE"; then exit 0; fi
    note "the pull failed"
fi
say "Building base image $IMAGE from Debian packages, as no registry is reachable (about two minutes)"
command -v mmdebstrap >/dev/null || install_packages mmdebstrap debian-archive-keyring
note "\$ mmdebstrap --variant=minbase $SUITE && docker import"
[ -z "$DRY_RUN" ] || exit 0
work=$(mktemp -d)
trap 'as_root rm -rf "$work"' EXIT
bootstrap "$work"
keep_in_cache || note "could not keep a copy in $BASE_IMAGE_CACHE; going on without"
