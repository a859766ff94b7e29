"""What only Python has: see cases.toml."""

import decimal
import logging
import os
import sys
import threading
import time

logger = logging.getLogger()
logger.setLevel(logging.INFO)


def spins(event, context):
    print("spinning")
    try:
        while True:
            try:
                while True:
                    sum(range(1000))
            except Exception:
                print("swallowed")
    finally:
        print("stopped")


def refuses_to_stop(event, context):
    print("waiting")
    try:
        time.sleep(60)
    except BaseException:
        return "answered all the same"


def waits_for_thread(event, context):
    print("waiting")
    lock = threading.Lock()
    lock.acquire()
    try:
        lock.acquire()
    finally:
        print("released")


def waits_for_program(event, context):
    import subprocess

    print("waiting")
    try:
        subprocess.run(["/bin/sleep", "60"])
    finally:
        print("program ended")


def logs(event, context):
    logging.getLogger("deep.inside").info("told by %s", "logging")
    print("told by print")
    return "logged"


class Price(decimal.Decimal):
    pass


def numbers(event, context):
    exact = decimal.Decimal("12345678901234567890.12345678901234567890")
    return {"a": [Price("1.50"), decimal.Decimal(3)], "b": exact, "ž": "\"ž\""}


def not_a_number(event, context):
    return [float("nan"), decimal.Decimal("NaN"), float("inf"), -float("inf")]


def bytes_inside(event, context):
    return {"body": b"dGV4dA==", "list": ["ž".encode()]}


def bytes_no_text(event, context):
    return [decimal.Decimal(1), b"\xff"]


def circular(event, context):
    value = []
    value.append(value)
    return value


def bytes_like(event, context):
    return memoryview(bytearray(b"\x00\x01"))


def yields_numbers(event, context):
    yield 1


async def awaits_generator(event, context):
    def pieces():
        yield "one "
        yield b"two"

    return pieces()


def exits_with_message(event, context):
    sys.exit("a last word")


def exits_at_once(event, context):
    os._exit(9)


def replaces_stdout(event, context):
    import io

    sys.stdout = io.StringIO()
    print("into nothing")
    sys.stdout = sys.__stdout__
    print("back")
    return "replaced"


def closes_stdout(event, context):
    sys.stdout.close()
    return "closed"


def unprintable(event, context):
    class Unprintable(Exception):
        def __str__(self):
            raise RuntimeError("not even this")

    raise Unprintable


def recurses(event, context):
    return recurses(event, context)


def represents_context(event, context):
    return repr(context)


class Callable:
    def __call__(self, event, context):
        return "called"


instance = Callable()
not_callable = "text"
