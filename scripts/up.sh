#!/usr/bin/env bash
# `make up`: from a bare machine to functions that answer. Every step finds out first whether it is
# done already, so a second run takes seconds.
#
# Settings: PROFILE (release or dev), PORT, and those of prelude.sh.
set -euo pipefail
# shellcheck source=scripts/prelude.sh
. "$(dirname "$0")/prelude.sh"

PROFILE=${PROFILE:-release}
INSTANCE=$ROOT/scripts/instance.sh
case $PROFILE in
dev) BINARY=${CARGO_TARGET_DIR:-$ROOT/target}/debug/hearth ;;
*) BINARY=${CARGO_TARGET_DIR:-$ROOT/target}/$PROFILE/hearth ;;
esac

# `key = "value"` of a runtime's manifest, or the first string of `key = ["value", …]`.
manifest_value() { sed -n "s/^$2 *= *\[\{0,1\} *\"\([^\"]*\)\".*/\1/p" "$1" | head -n 1; }

# Deploys the template of one runtime folder, calls it and shows the answer.
greet() {
    local folder=$1 manifest=$1/runtime.toml language name handler
    language=$(manifest_value "$manifest" names)
    handler=$(manifest_value "$manifest" default_handler)
    name=hello-$language
    say "Deploying $name and calling it"
    note "\$ hearth deploy ${folder#"$ROOT"/}/template --name $name --runtime $language --handler $handler"
    "$INSTANCE" run deploy "$folder/template" --name "$name" --runtime "$language" \
        --handler "$handler" >/dev/null
    note "\$ hearth invoke $name --data '{\"name\": \"you\"}'"
    note "$("$INSTANCE" run invoke "$name" --data '{"name": "you"}')"
}

if [ -z "$DRY_RUN" ] && ! may_be_root; then
    die "hearth makes directories for the user its workers run as, which needs root. Run:
    sudo env PATH=\"\$PATH\" make up"
fi
"$ROOT/scripts/setup.sh" "$HEARTH_STATE_DIR/engine.record"

"$ROOT/scripts/shims.sh"
[ -n "${SKIP_DASHBOARD:-}" ] || "$ROOT/scripts/dashboard.sh"
say "Building hearth ($PROFILE)"
build_hearth "$PROFILE"

if [ -n "$DRY_RUN" ]; then
    say "Starting hearth on 127.0.0.1:${PORT:-8080}, state in $HEARTH_STATE_DIR"
    note "\$ $BINARY serve --state-dir $HEARTH_STATE_DIR --listen 127.0.0.1:${PORT:-8080}"
    say "Deploying and calling one function from each of:"
    for manifest in "$ROOT"/runtimes/*/runtime.toml; do note "$(dirname "$manifest")/template"; done
    say "This was a dry run: nothing was changed"
    exit 0
fi

"$INSTANCE" start "$BINARY"
functions=()
for manifest in "$ROOT"/runtimes/*/runtime.toml; do
    [ -d "$(dirname "$manifest")/template" ] || continue
    greet "$(dirname "$manifest")"
    functions+=("hello-$(manifest_value "$manifest" names)")
done

settings=$("$INSTANCE" env)
eval "$settings"
cat <<END

Hearth is up.
    address   $HEARTH_URL
    dashboard $HEARTH_URL/dashboard/      (sign in with the key; the API reference is at $HEARTH_URL/docs)
    key       $HEARTH_KEY

Try next:
    eval "\$(make -s env)"                                     # address, key, and hearth on the PATH
    hearth invoke ${functions[0]} --data '{"name": "you"}'
    hearth logs ${functions[0]} --follow
END
