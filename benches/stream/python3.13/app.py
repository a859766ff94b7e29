"""Answers in two pieces, the second a moment after the first: when a caller has the first one is what streaming is for."""

import time


def handler(event, context):
    yield "first"
    time.sleep(0.005)
    yield "second"
