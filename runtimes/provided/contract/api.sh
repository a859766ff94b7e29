# shellcheck shell=bash
# Handlers that use the Runtime API in ways a good bootstrap does not. Sourced by `bootstrap` where the handler is one of them.

# Status and error type of a request: probe ARGUMENT… of curl.
probe() {
    local said
    said=$(curl -s -w '\n%{http_code}' "$@")
    printf '%s %s' "${said##*$'\n'}" "$(sed -n 's/.*"errorType":"\([^"]*\)".*/\1/p' <<<"$said")"
}

# What is not allowed while an invocation runs. None of it disturbs the invocation.
api.probes() {
    local all='' line
    while read -r line; do
        # shellcheck disable=SC2086
        all+="${all:+,}$(quoted "$(probe $line)")"
    done <<END
-d x $api/invocation/another-id/response
-d x $api/invocation/another-id/error
$api/invocation/next
-d {} $api/init/error
-d x -H Lambda-Runtime-Function-Response-Mode:sideways $api/invocation/$id/response
-X DELETE $api/invocation/next
$api/invocation/$id/response
$api/nothing
http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension/register
http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/ping
END
    answers "[$all]"
}

# Answers, then answers the same invocation again in both ways; what came of that is the next invocation's answer.
answered_again='"not yet"'
api.answers_twice() {
    local mine=$id first=$answered_again
    answers "$first"
    answered_again=$(quoted "$(probe -d '"again"' "$api/invocation/$mine/response"), $(probe -d '{}' "$api/invocation/$mine/error")")
}

# Hangs up in the middle of an answer, which does not count.
api.hangs_up() {
    exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}"
    printf '%s\r\n' "POST /2018-06-01/runtime/invocation/$id/response HTTP/1.1" "Host: x" "Content-Length: 100" "" '"half' >&3
    exec 3>&-
    local tries=200
    until [ "$(probe -d '"whole"' "$api/invocation/$id/response")" = '202 ' ] || [ $((tries--)) = 0 ]; do sleep 0.02; done
}
# The same in the middle of a stream, of which the caller has a part.
api.hangs_up_streaming() {
    stream_begins text/plain
    stream_piece 'first'
    printf 'ff\r\nhalf' >&3
    exec 3>&-
}

# Errors as other clients and shell scripts write them.
api.fails_in_other_words() {
    local kind
    case $(string as) in
    header) post -H 'Lambda-Runtime-Function-Error-Type: Function.Strange' -d 'it is late' "$api/invocation/$id/error" ;;
    text) post -d 'it is late' "$api/invocation/$id/error" ;;
    nothing) post -d '' "$api/invocation/$id/error" ;;
    lines) post -d '{"errorType": "Odd", "errorMessage": {"code": 7}, "stackTrace": "one\ntwo"}' "$api/invocation/$id/error" ;;
    large_header)
        kind=$(printf 'x%.0s' {1..100000})
        post -H "Lambda-Runtime-Function-XRay-Error-Cause: $kind" -d '{"errorType":"Odd","errorMessage":"m"}' "$api/invocation/$id/error"
        ;;
    esac
}

api.answers_no_json() { answers 'just words'; }
api.answers_nothing() { post -d '' "$api/invocation/$id/response"; }
api.answers_then_exits() {
    answers '"the last word"'
    exit 4
}
api.answers_then_ends_later() {
    answers "$((++calls))"
    sleep 0.5
    exit 6
}
# Sends its answer and does not wait for what the API says to it.
api.answers_while_it_exits() {
    printf '%s\r\n' "POST /2018-06-01/runtime/invocation/$id/response HTTP/1.1" "Host: x" "Content-Length: 7" "" '"words"' \
        >"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}"
    exit 5
}
# As a program that knows nothing of SIGTERM does.
api.waits_unaware() {
    trap - TERM
    echo running
    naps
}
api.leaves_programs_behind() {
    sleep 1000 &
    (setsid sleep 1000 &)
    answers '"started"'
}
# Everything that could be a way to Hearth's socket.
api.reaches_for_the_socket() {
    local found=''
    ls "/proc/$PPID/fd" >/dev/null 2>&1 && found+=descriptors
    cat "/proc/$PPID/environ" >/dev/null 2>&1 && found+=environ
    (: <"/proc/$PPID/mem") 2>/dev/null && found+=memory
    answers "$(quoted "${found:-nothing}")"
}
