"""What a function on AWS's own client is asked to do: the event says which."""

import os
import sys
import time

calls = 0


class Odd(Exception):
    pass


def handler(event, context):
    global calls
    calls += 1
    print("called", calls)
    what = event.get("do", "echo")
    if what == "describe":
        client = context.client_context
        return {
            "request_id": context.aws_request_id,
            "function": [context.function_name, context.function_version, context.memory_limit_in_mb],
            "arn": context.invoked_function_arn,
            "log": [context.log_group_name, context.log_stream_name],
            "remaining": context.get_remaining_time_in_millis(),
            "custom": client and client.custom,
            "app_title": client and client.client.app_title,
            "identity": context.identity.cognito_identity_id,
            "trace": os.environ.get("_X_AMZN_TRACE_ID"),
            "calls": calls,
            "wrapped": os.environ.get("WRAPPED_BY"),
        }
    if what == "fail":
        raise Odd("žluťoučký kůň", 7)
    if what == "exit":
        sys.exit(event["status"])
    if what == "sleep":
        time.sleep(event["seconds"])
    if what == "odd":
        return {1, 2}
    if what == "long":
        return "x" * event["bytes"]
    return event
