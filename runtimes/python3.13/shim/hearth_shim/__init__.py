"""The shim of the python3.13 runtime: speaks `hearth-worker/1` (runtimes/PROTOCOL.md) and calls the function's handler.

Standard library only. `worker` is the loop, `wire` the frames, `code` loads the handler, `invocation` runs it,
`context` is what the handler is given, `faults` describes what went wrong, `output` is stdout, stderr and logging.
"""
