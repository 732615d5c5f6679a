"""Run `xft train` from a checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from xft.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
