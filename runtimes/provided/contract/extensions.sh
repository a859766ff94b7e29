# shellcheck shell=bash
# Handlers about the extensions API. Sourced by `bootstrap` where the handler is one of them.

. "$LAMBDA_TASK_ROOT/api.sh"
extension="http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension"

# What is not allowed.
extensions.probes() {
    local all='' line nobody='Lambda-Extension-Identifier:01234567-89ab-cdef-0123-456789abcdef'
    while read -r line; do
        # shellcheck disable=SC2086
        all+="${all:+,}$(quoted "$(probe $line)")"
    done <<END
$extension/event/next
-H Lambda-Extension-Identifier:me $extension/event/next
-H $nobody $extension/event/next
-H $nobody -d {} $extension/init/error
-X DELETE $extension/register
$extension/nothing
-X PUT -d {} http://$AWS_LAMBDA_RUNTIME_API/2020-08-15/logs
-X PUT -d {} http://$AWS_LAMBDA_RUNTIME_API/2022-07-01/telemetry
END
    answers "[$all]"
}

# A part of this process that is an extension, too: it is told of calls, and has a file to say so.
extensions.register() { probe -H "Lambda-Extension-Name: $1" -d "$2" "$extension/register"; }
extensions.internal() {
    local tries=500 late
    late=$(extensions.register late '{"events": []}')
    until grep -q "\"requestId\":\"$id\"" "$work/told" 2>/dev/null || [ $((tries--)) = 0 ]; do sleep 0.02; done
    answers "$(quoted "$(sed -n "s/.*\"requestId\":\"\($id\)\".*/\1/p" "$work/told"), $late")"
}
if [ "$_HANDLER" = extensions.internal ]; then
    extensions.register inner '{"events": ["SHUTDOWN"]}'
    echo
    extensions.register '' '{"events": []}'
    echo
    extensions.register inner 'no JSON'
    echo
    curl -s -o /dev/null -D "$headers" -H 'Lambda-Extension-Name: inner' -d '{"events": ["INVOKE"]}' "$extension/register"
    inner=$(header lambda-extension-identifier)
    echo "registered ${inner:+an id}"
    extensions.register inner '{"events": []}'
    echo
    (
        while curl -s -f -H "Lambda-Extension-Identifier: $inner" "$extension/event/next" >>"$work/told"; do echo >>"$work/told"; done
    ) &
fi
