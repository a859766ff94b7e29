"""Finds the function's handler. The texts of the faults are AWS's, because people search for them."""

import importlib
import sys

from hearth_shim.faults import Fault, stack_of


def load(name):
    """The callable a handler name such as `app.handler`, `pkg/app.handler` or `pkg.app.handler` stands for."""
    try:
        path, attribute = name.rsplit(".", 1)
    except ValueError as error:
        raise Fault("Runtime.MalformedHandlerName", f"Bad handler '{name}': {error}") from None
    module = path.replace("/", ".")
    if not all(module.split(".")):
        raise Fault("Runtime.MalformedHandlerName", f"Bad handler '{name}': Empty module name")
    if module.split(".")[0] in sys.builtin_module_names:
        raise Fault(
            "Runtime.BuiltInModuleConflict",
            f"Cannot use built-in module {path} as a handler module",
        )
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        raise Fault(
            "Runtime.ImportModuleError",
            f"Unable to import module '{path}': {error}",
            # AWS shows none; this one says who wanted what is not there.
            [frame for frame in stack_of(error) if "<frozen importlib" not in frame],
        ) from None
    except SyntaxError as error:
        raise Fault(
            "Runtime.UserCodeSyntaxError",
            f"Syntax error in module '{path}': {error}",
            [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'],
        ) from None
    try:
        handler = getattr(loaded, attribute)
    except AttributeError:
        raise Fault(
            "Runtime.HandlerNotFound", f"Handler '{attribute}' missing on module '{path}'"
        ) from None
    if not callable(handler):
        raise Fault(
            "Runtime.HandlerNotFound",
            f"Handler '{attribute}' on module '{path}' is not callable",
        )
    return handler
