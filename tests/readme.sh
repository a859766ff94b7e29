#!/usr/bin/env bash
# Runs the README's own commands, so that what a reader copies works.
#
#   tests/readme.sh [FILE]
#
# A block fenced as "```sh test" is run; all of them in one shell and in order, so that a variable
# set in one is there in the next. If the next fence after it says "expect" (as in "```json expect"),
# every line of that block must occur in what the commands printed. Blocks without a mark are not
# run. The environment is the caller's: scripts/test.sh sets HEARTH_STATE_DIR, PORT and PROFILE so
# that a `make up` in the README starts an instance of its own.
set -euo pipefail

file=${1:-$(dirname "$0")/../README.md}
file=$(readlink -f "$file")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# timeout has a process group of its own, which a Ctrl-C does not reach.
child=""
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; exit 143' INT TERM

# Writes N.sh for each marked block and N.expect for the block that says what it prints.
awk -v dir="$work" '
    /^```/ && !inside {
        inside = 1; out = ""
        if ($0 ~ /^```sh test( |$)/) {
            n++; last = n; out = sprintf("%s/%03d.sh", dir, n)
            printf "" > out
        } else if (last && $0 ~ /^```[a-z]* ?expect( |$)/) {
            out = sprintf("%s/%03d.expect", dir, last); last = 0
        } else {
            last = 0
        }
        next
    }
    /^```/ { inside = 0; if (out) close(out); out = ""; next }
    inside && out { print > out }
' "$file"

cd "$(dirname "$file")"
passed=0
failed=0
set -- "$work"/*.sh
[ -e "$1" ] || {
    echo "error: no block in $file is marked for test" >&2
    exit 1
}
echo
echo "running $# tests ($(basename "$file"))"
# What one block exports, the next one has: each writes its variables down for its successor.
: >"$work/env"
for block in "$@"; do
    name=$(head -n 1 "$block")
    rc=0
    # shellcheck disable=SC2016  # expanded by the inner shell
    timeout --kill-after=10 "${README_TIMEOUT:-1200}" bash -c '
        set -a; . "$1/env"; set +a
        set -eo pipefail
        . "$2"
        export -p >"$1/env"
    ' readme "$work" "$block" >"$work/out" 2>&1 </dev/null &
    child=$!
    wait "$child" || rc=$?
    child=""
    missing=""
    if [ "$rc" = 0 ] && [ -e "${block%.sh}.expect" ]; then
        while IFS= read -r line; do
            grep -qF -- "$line" "$work/out" || missing+="$line"$'\n'
        done <"${block%.sh}.expect"
    fi
    if [ "$rc" = 0 ] && [ -z "$missing" ]; then
        echo "test $name ... ok"
        passed=$((passed + 1))
        continue
    fi
    echo "test $name ... FAILED"
    [ "$rc" = 0 ] || echo "    exit status $rc"
    [ -z "$missing" ] || printf '    expected, but not printed:\n%s' "$missing"
    tail -n 40 "$work/out" | sed 's/^/    | /'
    failed=$((failed + 1))
done
result=ok
[ "$failed" = 0 ] || result=FAILED
printf '\ntest result: %s. %d passed; %d failed; 0 ignored; 0 measured; 0 filtered out\n' \
    "$result" "$passed" "$failed"
[ "$failed" = 0 ]
