"""The program a python3.13 worker runs. The shim itself is the package beside this file."""

import sys

from hearth_shim import worker

# The function's modules are looked up on sys.path later: this folder must not be among them.
del sys.path[0]

if __name__ == "__main__":
    worker.main()
