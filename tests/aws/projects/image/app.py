"""In an image: the event says what is told of where it runs."""

import os
import sys

kept = []


def handler(event, context):
    print("called", *sys.argv[1:])
    what = event.get("do")
    if what == "describe":
        return {
            "handler": os.environ["_HANDLER"],
            "directory": os.getcwd(),
            "file": __file__,
            "ids": [os.getuid(), os.getgid()],
            "variables": {name: os.environ.get(name) for name in event["variables"]},
            "function": context.function_name,
            "version": context.function_version,
            "arn": context.invoked_function_arn,
            "unwritable": [path for path in event["paths"] if not writable(path)],
            "release": read("/release"),
            "data": size("/data"),
            "tmp": size("/tmp"),
        }
    return event


def other(event, context):
    return "other"


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        return type(error).__name__


def size(folder):
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize


def writable(folder):
    try:
        with open(os.path.join(folder, "written"), "w"):
            return True
    except OSError:
        return False
