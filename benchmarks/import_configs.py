"""Import all configs of another tool below a folder, and count those that pass ``xft check``.

The folder is a checkout of the tool, or a part of it::

    python benchmarks/import_configs.py ../LLaMA-Factory/examples
    python benchmarks/import_configs.py ../xtuner/xtuner/configs --failures
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from xft.errors import ConfigError
from xft.migration import import_config
from xft.migration.importer import MAX_LINES
from xft.utils.console import echo

SUFFIXES = (".py", ".yaml", ".yml", ".json")


def main() -> int:
    """Print the counts. Returns 1 if a config ends in anything but one line, or has too many lines."""
    parser = argparse.ArgumentParser(description="Import all configs below a folder, and count them.")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--failures", action="store_true", help="print the line of each config that is not imported"
    )
    parser.add_argument(
        "--entries", action="store_true", help="count what became of keys that are not taken over"
    )
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    entries: Counter[str] = Counter()
    broken = False
    for file in sorted(path for path in arguments.folder.rglob("*") if path.suffix in SUFFIXES):
        try:
            imported = import_config(file)
        except ConfigError as error:
            counts["not imported"] += 1
            reasons[f"{error.key} {error.got!r:.60}"] += 1
            if arguments.failures:
                echo(str(error).replace("\n", " ")[:300])
            continue
        counts[f"imported from {imported.draft.tool}"] += 1
        entries.update(
            f"{entry.kind}: {entry.key}: {entry.text}"
            for entry in imported.draft.entries
            if entry.kind != "taken over"
        )
        if imported.text.count("\n") > MAX_LINES:
            echo(f"{file}: {imported.text.count(chr(10))} lines")
            broken = True
    for name, count in counts.most_common():
        echo(f"{count:>5} {name}")
    for name, count in reasons.most_common():
        echo(f"{count:>9} {name}")
    if arguments.entries:
        for name, count in entries.most_common():
            echo(f"{count:>5} {name}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
