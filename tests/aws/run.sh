#!/usr/bin/env bash
# AWS's own clients, unmodified, against a running server: boto3, the aws CLI and SAM do what users do with them, errors too.
#
#   run.sh [TEST…]     as unittest names them: test_functions, test_calls.Calls.test_echo; all if left out
#
# Starts a server of its own, needs a Docker engine, and keeps the clients and what functions are packed with in target/.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/../../scripts/prelude.sh"
# shellcheck source=tests/server.sh
. "$ROOT/tests/server.sh"

tool=$built/aws-clients

tests/tools.sh aws
export FASTAPI_DIR=$built/aws-fastapi SAM_DIR=$built/aws-sam

build_server
# Not the place that is the default: whatever names a function has to know where it is.
export AWS_TEST_REGION=eu-west-3 AWS_TEST_ACCOUNT=210987654321
runtimes/provided/contract/build.sh
export S3_STORE=$work/s3.json
"$built/aws-s3/bin/python" tests/aws/s3.py "$S3_STORE" >"$work/s3.log" 2>&1 &
store=$!
disown "$store"
end_store() {
    local status=$?
    # It may stand still.
    kill -KILL "$store" 2>/dev/null
    end_suite "$status"
}
trap end_store EXIT
wait_for 60 test -s "$S3_STORE" || die "no store: $(tail -n 5 "$work/s3.log")"
read -r s3_endpoint s3_key s3_secret < <(python3 -c 'import json, sys
told = json.load(open(sys.argv[1]))
print(told["endpoint"], *told["hearth"])' "$S3_STORE")
serve 127.0.0.1:0 --set pool.stem_min=1 --set pool.stem_max=2 \
    --set "aws.region=$AWS_TEST_REGION" --set "aws.account=$AWS_TEST_ACCOUNT" \
    --set "aws.s3.endpoint=$s3_endpoint" --set "aws.s3.access_key=$s3_key" --set "aws.s3.secret_key=$s3_secret" \
    --set "aws.sqs.endpoint=$s3_endpoint" --set "aws.sqs.access_key=$s3_key" --set "aws.sqs.secret_key=$s3_secret" \
    --set "aws.destinations=arn:aws:sqs:$AWS_TEST_REGION:$AWS_TEST_ACCOUNT:failed=function:failed"
await_server
# What a user's shell gets, and nothing of the user's own settings for AWS.
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE AWS_CA_BUNDLE
eval "$(as_root "$built/debug/hearth" --state-dir "$work/state" env)"
HOME_OF_CALLER=$HOME
export AWS_EC2_METADATA_DISABLED=true AWS_PAGER="" HOME=$work
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
await_ready
export PATH=$tool/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PACKAGES=$tool/packages HEARTH=$built/debug/hearth
DOCKER="$(docker_prefix) $(docker_client)"
export DOCKER
# Terraform's provider is in no registry we install from; where somebody keeps a mirror, it is used.
if [ -z "${TERRAFORM_MIRROR:-}" ] && command -v terraform >/dev/null; then
    found=$(find "$HOME_OF_CALLER/.terraform.d" /usr/local/share/terraform /usr/share/terraform /opt \
        -maxdepth 5 -type d -path '*/registry.terraform.io/hashicorp/aws' -print -quit 2>/dev/null || true)
    [ -z "$found" ] || export TERRAFORM_MIRROR=${found%/registry.terraform.io/hashicorp/aws}
fi
if [ -z "${TERRAFORM_MIRROR:-}" ]; then
    say "NOT TESTED: Terraform, because it or its AWS provider is not on this machine"
fi
cd tests/aws
all=$#
[ $# -gt 0 ] || set -- discover
within 1500 "$tool/bin/python" -m unittest "$@"
if [ "$all" = 0 ]; then
    PATH=$built/debug:$PATH "$ROOT/tests/readme.sh" "$ROOT/docs/migrating.md"
fi
