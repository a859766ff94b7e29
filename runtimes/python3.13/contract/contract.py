"""The contract's handlers in Python; what each must do is written in runtimes/_contract/README.md."""

import asyncio
import ctypes
import os
import subprocess
import sys
import threading
import time

loaded = time.monotonic_ns()
calls = 0


class ContractError(Exception):
    pass


def echo(event, context):
    return event


async def echo_async(event, context):
    await asyncio.sleep(0.001)
    return event


def fails(event, context):
    inner_failure(event)


def inner_failure(event):
    raise ContractError(f"no such thing: {event['thing']}")


async def fails_async(event, context):
    await asyncio.sleep(0.001)
    inner_failure(event)


def fails_at_length(event, context):
    raise ContractError("long " * 100_000)


def prints(event, context):
    print("one")
    print("two", file=sys.stderr)
    print("three: žluťoučký kůň 🐎")
    print("four, not ended", end="")
    return "printed"


def prints_later(event, context):
    threading.Thread(target=lambda: (time.sleep(0.2), print("later")), daemon=True).start()
    print("now")
    return "answered"


def prints_much(event, context):
    for number in range(event["lines"]):
        print(f"line {number:06d} {'x' * 100}")
    return "printed"


def prints_natively(event, context):
    print("before")
    os.write(1, b"native stdout\n")
    os.write(2, b"native stderr\n")
    subprocess.run(["/bin/echo", "child"], check=True)
    print("after")
    return "printed"


def loses_output(event, context):
    sys.stdout = None
    os.close(1)
    os.close(2)
    return "still here"


def sleeps(event, context):
    before = context.get_remaining_time_in_millis()
    time.sleep(event["ms"] / 1000)
    return {"before": before, "after": context.get_remaining_time_in_millis()}


def answers_bytes(event, context):
    return bytes(event["values"])


def reverses_bytes(event, context):
    assert type(event) is bytes
    return event[::-1]


def answers_size(event, context):
    return "x" * (event["bytes"] - 2)


def answers_nothing(event, context):
    pass


def answers_not_json(event, context):
    return {"not": {"json", "able"}}


def environment(event, context):
    return {name: os.environ.get(name) for name in event["names"]}


def counts(event, context):
    global calls
    calls += 1
    return calls


async def counts_async(event, context):
    """One event loop for all calls: what a call leaves on it goes on in the next."""
    global calls
    loop = asyncio.get_running_loop()
    first = counts_async.__dict__.setdefault("loop", loop)
    await asyncio.sleep(0)
    calls += 1
    return {"calls": calls, "same_loop": loop is first}


def describes_context(event, context):
    return {
        "request_id": context.aws_request_id,
        "function_name": context.function_name,
        "function_version": context.function_version,
        "memory_mb": context.memory_limit_in_mb,
        "log_group": context.log_group_name,
        "log_stream": context.log_stream_name,
        "function_arn": context.invoked_function_arn,
        "identity": context.identity.cognito_identity_id,
        "client_custom": context.client_context and context.client_context.custom,
        "trace_id": os.environ.get("_X_AMZN_TRACE_ID"),
        "traceparent": context.traceparent,
        "tracestate": context.tracestate,
        "in_task_root": os.path.samefile(os.getcwd(), os.environ["LAMBDA_TASK_ROOT"]),
    }


def sockets_of_child(event, context):
    listing = subprocess.run(
        ["/bin/ls", "-l", "/proc/self/fd"], check=True, capture_output=True, text=True
    )
    return listing.stdout.count("socket:")


def exits(event, context):
    print("about to exit")
    sys.exit(event["status"])


def crashes(event, context):
    print("about to crash")
    ctypes.string_at(0)


def exhausts_memory(event, context):
    print("about to run out of memory")
    kept = []
    while True:
        kept.append(b"x" * (1 << 20))


def waits(event, context):
    print("running")
    try:
        time.sleep(60)
        return "not told"
    finally:
        print("cleaned up")


async def waits_async(event, context):
    print("running")
    try:
        await asyncio.sleep(60)
        return "not told"
    finally:
        print("cleaned up")


def streams(event, context):
    for piece in event["pieces"]:
        print(f"sending {piece}")
        yield piece


async def streams_async(event, context):
    for piece in event["pieces"]:
        await asyncio.sleep(0.001)
        yield piece


def streams_typed(event, context):
    context.set_content_type("text/event-stream")
    yield b"data: 1\n\n"


def streams_size(event, context):
    yield b"x" * event["bytes"]


def streams_nothing(event, context):
    return
    yield


def streams_then_fails(event, context):
    yield "first"
    inner_failure(event)


def streams_then_waits(event, context):
    try:
        yield "first"
        time.sleep(60)
        yield "not told"
    finally:
        print("cleaned up")


async def streams_then_waits_async(event, context):
    try:
        yield "first"
        await asyncio.sleep(60)
        yield "not told"
    finally:
        print("cleaned up")
