"""``xft sweep``: a run for each combination of values, and a table that compares them."""

import argparse
import hashlib
import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from xft.commands.shared import Command
from xft.errors import ConfigError
from xft.utils import paths
from xft.utils.console import echo

MAX_RUNS = 100
_SETTING = re.compile(r"([A-Za-z_][\w.]*)=(.+)", re.DOTALL)
_CLOSING = {"[": "]", "(": ")", "{": "}"}
MAX_NAME_LENGTH = 120
"""Characters of the name of a run folder, without its digest."""


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a config file or a shipped config")
    parser.add_argument(
        "settings",
        nargs="+",
        metavar="KEY=A,B",
        help="values to combine, e.g. lr=1e-4,2e-4 r=8,16; a key with one value is set in all runs",
    )
    parser.add_argument("--data", metavar="FILE", help="the rows; the same as data.path=FILE")
    parser.add_argument(
        "--work-dir", metavar="DIR", help="folder of the runs (default: runs/NAME_OF_THE_CONFIG-sweep)"
    )


def parse_settings(settings: Sequence[str]) -> dict[str, list[str]]:
    """Return key to values. A short key of peft or transformers, such as ``lr``, becomes that of xft.

    Raises:
        ConfigError: a setting is not ``KEY=A,B``, a bracket or quote is not closed, a key is named twice, or there are too
            many runs.
    """
    from xft.config.foreign_keys import translate

    values: dict[str, list[str]] = {}
    for setting in settings:
        match = _SETTING.fullmatch(setting)
        if match is None:
            raise ConfigError(key="KEY=A,B", got=setting, expected="values such as lr=1e-4,2e-4")
        target = translate(match[1]) if "." not in match[1] else None
        key = target if target is not None and re.fullmatch(r"[\w.]+", target) else match[1]
        if key in values:
            raise ConfigError(key=key, got=setting, expected="each key once", fix=f"write {key}=A,B")
        values[key] = list(dict.fromkeys(split_values(key, match[2])))
    count = 1
    for choices in values.values():
        count *= len(choices)
    if count > MAX_RUNS:
        raise ConfigError(key="KEY=A,B", got=f"{count:,} runs", expected=f"at most {MAX_RUNS}")
    return values


def split_values(key: str, text: str) -> list[str]:
    """Split the values of a setting at its commas outside of brackets and quotes.

    A quote that follows a letter or a digit is an apostrophe.

    Raises:
        ConfigError: a bracket or quote is not closed.
    """
    values, begin, closing = [], 0, ""
    for index, char in enumerate(text):
        if closing[-1:] in ("'", '"'):
            closing = closing[:-1] if char == closing[-1] and text[index - 1] != "\\" else closing
        elif char in "'\"" and not text[index - 1 : index].isalnum():
            closing += char
        elif char in _CLOSING:
            closing += _CLOSING[char]
        elif closing and char == closing[-1]:
            closing = closing[:-1]
        elif char == "," and not closing:
            values.append(text[begin:index])
            begin = index + 1
    if closing:
        raise ConfigError(key=key, got=text, expected=f"values in which {closing[::-1]} is not missing")
    return [*values, text[begin:]]


def combinations(values: Mapping[str, Sequence[str]]) -> list[tuple[str, list[str]]]:
    """Return name and overrides of each run. No two runs have the same name.

    The name has the values that differ between runs. If it cannot have them as they are, a digest of the overrides follows.
    """
    varied = [key for key, choices in values.items() if len(choices) > 1]
    last = [key.rpartition(".")[2] for key in varied]
    labels = {
        key: short if last.count(short) == 1 else key for key, short in zip(varied, last, strict=True)
    }
    runs = []
    for choice in itertools.product(*values.values()):
        pairs = dict(zip(values, choice, strict=True))
        name = "-".join(f"{label}={pairs[key]}" for key, label in labels.items()) or "run"
        runs.append((_folder_name(name), [f"{key}={value}" for key, value in pairs.items()]))
    # A file system may ignore case.
    counts = Counter(name.casefold() for name, _ in runs)
    return [
        (_with_digest(name, overrides) if counts[name.casefold()] > 1 else name, overrides)
        for name, overrides in runs
    ]


def _folder_name(name: str) -> str:
    """Return a name without characters that a shell or a path reads otherwise; a changed name gets a digest."""
    plain = re.sub(r"[^\w.=+-]+", "_", name)[:MAX_NAME_LENGTH]
    return plain if plain == name else _with_digest(plain, [name])


def _with_digest(name: str, texts: Sequence[str]) -> str:
    return f"{name}-{hashlib.sha256(repr(texts).encode()).hexdigest()[:8]}"


def _sweep(arguments: argparse.Namespace) -> int:
    runs = combinations(parse_settings(arguments.settings))
    folder = Path(arguments.work_dir or Path("runs") / f"{Path(arguments.config).stem}-sweep")
    data = [] if arguments.data is None else ["--data", arguments.data]
    failed = []
    for number, (name, overrides) in enumerate(runs, 1):
        echo(f"run {number} of {len(runs)}: {' '.join(overrides)}", flush=True)
        # A sweep that is repeated resumes what was interrupted, and skips what is done.
        words = [arguments.config, *overrides, "--work-dir", str(folder / name), "--resume", "auto", *data]
        code = run_train(words)
        if code in (128 + 2, 128 + 15):
            return code
        if code:
            failed.append(f"{name} (exit code {code})")
    _print_table(folder)
    if failed:
        echo(f"failed: {', '.join(failed)}", error=True)
    return 1 if failed else 0


def run_train(words: Sequence[str]) -> int:
    """Run ``xft train`` in a new process, and return its exit code; Ctrl-C reaches it as well, and is waited for."""
    places = (str(paths.PACKAGE.parent), os.environ.get("PYTHONPATH"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
    process = subprocess.Popen([sys.executable, "-P", "-m", "xft", "train", *words], env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def _print_table(folder: Path) -> None:
    from xft.reporting.run_table import format_runs

    if not folder.is_dir():
        return
    try:
        lines = list(format_runs([folder]))
    except ConfigError:  # no run has begun
        return
    echo()
    for line in lines:
        echo(line)


SWEEP = Command(
    "train with each combination of some values, and compare the runs",
    _add_sweep,
    _sweep,
    examples=(
        "xft sweep smollm2_lora lr=1e-3,2e-3 r=8,16 --data my_rows.csv",
        "xft sweep my_config.py training.epochs=2,4 seed=1",
    ),
    note="Repeat the command to resume a sweep that was interrupted.",
)
