"""The program a python3.13 worker runs. The shim itself is the package beside this file."""

import os
import sys

# The function's modules are looked up on sys.path later: this folder must not shadow them.
sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
sys.path.append(os.path.dirname(os.path.abspath(__file__)))

from hearth_shim import worker  # noqa: E402

sys.path.pop()

if __name__ == "__main__":
    worker.main()
