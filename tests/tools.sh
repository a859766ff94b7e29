#!/usr/bin/env bash
# Installs what the suites need beside Hearth: the clients, servers and browsers they use. Does nothing for what is there.
#
#   tools.sh SUITE…     aws, openapi, dashboard
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/../scripts/prelude.sh"

cd "$ROOT"
built=${CARGO_TARGET_DIR:-target}

# pip_tool NAME REQUIREMENTS WHAT: Python programs in an environment of their own, kept until what is required changes.
pip_tool() {
    local tool=$built/$1
    cmp -s "$2" "$tool/installed.txt" && return
    note "installing $3 in $tool"
    rm -rf "$tool"
    within 60 python3 -m venv "$tool"
    within 300 "$tool/bin/pip" install --quiet --disable-pip-version-check --requirement "$2"
    cp "$2" "$tool/installed.txt"
}

# What an app brings along, for the interpreter in the runtime's image, which is not the one here.
fastapi() {
    local folder=$built/aws-fastapi
    cmp -s tests/aws/fastapi.txt "$folder/installed.txt" && return
    note "installing FastAPI and Mangum in $folder"
    rm -rf "$folder"
    within 300 "$built/aws-clients/bin/pip" install --quiet --disable-pip-version-check --target "$folder" --only-binary=:all: \
        --implementation cp --python-version 3.13 --platform "manylinux2014_$(uname -m)" --requirement tests/aws/fastapi.txt
    cp tests/aws/fastapi.txt "$folder/installed.txt"
}

aws() {
    pip_tool aws-clients tests/aws/requirements.txt "boto3 and the aws CLI"
    fastapi
    # Of its own, because it wants another boto3.
    pip_tool aws-sam tests/aws/sam.txt "the SAM CLI"
    # A service that code and messages are fetched from.
    pip_tool aws-s3 tests/aws/s3.txt "a server of S3 and SQS"
    # AWS's client for Node.js is compiled where it is installed.
    for program in autoreconf libtoolize cmake g++ make; do
        command -v "$program" >/dev/null || { install_packages autoconf automake libtool cmake g++ make && break; }
    done
}

openapi() { pip_tool schemathesis tests/openapi/requirements.txt schemathesis; }

dashboard() {
    local lock modules=tests/dashboard/node_modules
    browser >/dev/null || install_packages chromium fonts-dejavu-core
    lock=$(sha256sum tests/dashboard/package-lock.json | cut -c1-32)
    [ "$(cat "$modules/.lock" 2>/dev/null)" != "$lock" ] || return 0
    # Once more, because registries have moments.
    npm_ci || npm_ci
    echo "$lock" >"$modules/.lock"
}
npm_ci() (cd tests/dashboard && within 300 npm ci --no-audit --no-fund --loglevel=error)

for suite in "$@"; do
    case $suite in aws | openapi | dashboard) "$suite" ;; *) die "no such suite: $suite" ;; esac
done
