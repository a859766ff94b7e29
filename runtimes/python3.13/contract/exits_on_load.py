"""A module that ends the process when it is loaded."""

import sys

print("loading")
sys.exit(3)
