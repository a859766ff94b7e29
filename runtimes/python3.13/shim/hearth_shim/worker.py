"""The life of a worker: HELLO, then a stem worker that answers PING, then INIT, then one invocation after the other.

States: stem --INIT ok--> ready; stem --INIT failed--> failed. SHUTDOWN and the end of the connection end every state with
status 0, anything unexpected with status 70.
"""

import gc
import json
import os
import platform
import struct
import sys
import time

from hearth_shim import code, faults, output, wire
from hearth_shim.context import LambdaContext, Settings, parse_extra
from hearth_shim.invocation import Runner, end_of_protocol

PROTOCOL = "hearth-worker/1"
RUNTIME = "python3.13"
LAYERS = "/opt"

_DEADLINE = struct.Struct(">QB")

STEM, READY, FAILED = "before INIT", "after INIT", "after a failed INIT"
_EXPECTED = {
    STEM: "INIT, PING or SHUTDOWN",
    READY: "INVOKE, PING or SHUTDOWN",
    FAILED: "PING or SHUTDOWN",
}


class Worker:
    def __init__(self, connection):
        self._connection = connection
        self._runner = Runner(connection)
        self._state = STEM
        self._settings = None
        self._handler = None
        self._last = 0  # stream of the last invocation
        self._traced = False  # the last invocation was part of a trace

    def serve(self):
        """Until SHUTDOWN."""
        receive = self._connection.receive
        hello = {
            "protocol": PROTOCOL,
            "runtime": RUNTIME,
            "language": f"Python {platform.python_version()}",
            "pid": os.getpid(),
        }
        self._connection.send(wire.HELLO, 0, json.dumps(hello).encode())
        while True:
            kind, flags, stream, body = receive()
            if kind == wire.INVOKE and self._state is READY:
                self._invoke(flags, stream, body)
            elif kind == wire.CANCEL and 0 < stream <= self._last:
                pass  # of an invocation that has just ended
            elif stream != 0:
                raise wire.ProtocolError(
                    f"expected {_EXPECTED[self._state]} {self._state}, got {wire.name(kind)} on stream {stream}"
                )
            elif kind == wire.PING:
                self._connection.send(wire.PONG, 0, bytes(body))
            elif kind == wire.SHUTDOWN:
                return
            elif kind == wire.INIT and self._state is STEM:
                self._init(body)
            else:
                raise wire.ProtocolError(
                    f"expected {_EXPECTED[self._state]} {self._state}, got {wire.name(kind)}"
                )

    def _init(self, body):
        begun = time.perf_counter_ns()
        try:
            init = json.loads(bytes(body))
            self._settings = Settings(init)
            handler, root = init["handler"], init["task_root"]
            environment = {str(name): str(value) for name, value in init["environment"].items()}
            memory, timeout = init["memory_mb"], init["timeout_ms"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise wire.ProtocolError(f"expected an INIT with every setting, got one where {error!r}") from None
        try:
            apply_environment(environment, handler, root, self._settings)
            output.set_logging(environment)
            enter(root, environment.get("PYTHONPATH", ""))
            self._handler = code.load(handler)
        except Exception as error:
            described = faults.describe(error)
            output.failed(*described)
            self._state = FAILED
            self._connection.send(wire.INIT_ERROR, 0, faults.encode(*described))
            return
        # What is loaded by now stays: the collector need not look at it again in every full collection.
        gc.freeze()
        output.flush()
        applied = {
            "handler": handler,
            "function_name": self._settings.name,
            "function_version": self._settings.version,
            "memory_mb": memory,
            "timeout_ms": timeout,
            "environment_count": len(environment),
            "init_us": (time.perf_counter_ns() - begun) // 1000,
        }
        self._state = READY
        self._connection.send(wire.READY, 0, json.dumps(applied).encode())

    def _invoke(self, flags, stream, body):
        if stream <= self._last:
            raise wire.ProtocolError(f"expected INVOKE on a stream after {self._last}, got stream {stream}")
        self._last = stream
        try:
            deadline_ms, length = _DEADLINE.unpack_from(body)
            at = 9 + length
            request_id = str(body[9:at], "ascii")
            extra_length = body[at] << 8 | body[at + 1]
            at += 2 + extra_length
            if at > len(body):
                raise ValueError("the body ends inside the extra context")
            extra = parse_extra(bytes(body[at - extra_length : at])) if extra_length else None
        except (ValueError, struct.error, IndexError) as error:
            raise wire.ProtocolError(f"expected a whole INVOKE, got one where {error}") from None
        output.request_id = request_id
        context = LambdaContext(self._settings, request_id, deadline_ms, extra)
        if extra and "trace_id" in extra:
            os.environ["_X_AMZN_TRACE_ID"] = extra["trace_id"]
            self._traced = True
        elif self._traced:
            os.environ.pop("_X_AMZN_TRACE_ID", None)
            self._traced = False
        if flags & wire.RAW:
            event = bytes(body[at:])
        elif at == len(body):
            event = {}
        else:
            try:
                event = _event(str(body[at:], "utf-8"))
            except (ValueError, RecursionError) as error:
                self._runner.fail(
                    stream,
                    "Runtime.InvalidPayload",
                    f"Could not parse payload into json: {error}",
                    [],
                    wire.BAD_REQUEST,
                )
                return
        self._runner.run(stream, self._handler, event, context)


def _refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)
_scan = _decoder.scan_once


def _event(text):
    """What json.loads gives, without its search for space around the value, which is hardly ever there."""
    try:
        event, end = _scan(text, 0)
    except StopIteration:
        return _decoder.decode(text)
    return event if end == len(text) else _decoder.decode(text)


def apply_environment(environment, handler, root, settings):
    """What AWS's runtimes set, the function's own variables, then the ones AWS reserves."""
    os.environ.update(
        AWS_REGION=settings.region,
        AWS_DEFAULT_REGION=settings.region,
        # Without it the tracing library raises where there is no trace.
        AWS_XRAY_CONTEXT_MISSING="LOG_ERROR",
        LAMBDA_RUNTIME_DIR="/var/runtime",
        PATH=f"{os.environ.get('PATH', os.defpath)}:{LAYERS}/bin",
    )
    os.environ.update(environment)
    os.environ.update(
        AWS_LAMBDA_FUNCTION_NAME=settings.name,
        AWS_LAMBDA_FUNCTION_VERSION=settings.version,
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE=settings.memory,
        AWS_LAMBDA_LOG_GROUP_NAME=settings.log_group,
        AWS_LAMBDA_LOG_STREAM_NAME=settings.log_stream,
        AWS_EXECUTION_ENV=f"AWS_Lambda_{RUNTIME}",
        AWS_LAMBDA_INITIALIZATION_TYPE=settings.initialization,
        LAMBDA_TASK_ROOT=root,
        _HANDLER=handler,
    )
    if "TZ" in environment:
        time.tzset()


def enter(root, more):
    os.chdir(root)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # PYTHONPATH is read when Python starts, which was before anybody knew the function.
    more = [os.path.abspath(folder) for folder in more.split(os.pathsep) if folder]
    sys.path[:0] = [root, f"{LAYERS}/python/lib/{version}/site-packages", f"{LAYERS}/python", *more]


def main():
    output.prepare()
    output.prepare_logging()
    sys.dont_write_bytecode = True  # the code is read-only where it matters, and somebody's working copy elsewhere
    try:
        Worker(wire.connect()).serve()
    except wire.Closed:
        pass  # Hearth is gone, and with it whoever could be answered
    except wire.ProtocolError as error:
        end_of_protocol(error)
    output.flush()
