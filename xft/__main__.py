"""Run xft with ``python -m xft``."""

import os
import sys

# Why before any other import: the interpreter puts the current folder first, and a file there, such as a numpy.py
# that lies next to a downloaded config, would be executed in place of the library.
if sys.path and sys.path[0] in ("", os.getcwd()) and not sys.flags.safe_path:
    del sys.path[0]

from xft.cli import main

if __name__ == "__main__":
    sys.exit(main())
