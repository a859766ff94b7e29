"""Compiled code out of a package of tens of megabytes."""

import numpy


def handler(event, context):
    matrix = numpy.array(event["matrix"], dtype=float)
    return {
        "version": numpy.__version__,
        "inverse": numpy.linalg.inv(matrix).round(6).tolist(),
        "from": numpy.__file__,
    }
