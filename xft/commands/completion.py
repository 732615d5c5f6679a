"""``xft completion``, and what is offered where a shell asks for it.

The questions of the shell are answered by argcomplete (https://github.com/kislyuk/argcomplete), which reads
them off the parser. Here stands only what a parser does not know: what fits in place of a metavar. No config is
run for it.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xft.commands.shared import Command
from xft.utils import paths

Completer = Callable[..., list[str]]
ASKED = "_ARGCOMPLETE"
"""Set in the environment by a shell that wants completions."""
SHELLS = {
    "bash": "echo 'eval \"$(xft completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(xft completion zsh)\"' >> ~/.zshrc     (below compinit)",
    "fish": "xft completion fish > ~/.config/fish/completions/xft.fish",
}
"""What switches completion on for good."""
SAVED = ("config.json", "adapter_config.json")
"""One of them stands in a folder of transformers or peft."""
RUN_FILES = ("metrics.jsonl", "environment.json", "data_report.json")
"""One of them stands in a run folder."""


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=sorted(SHELLS), help="of the script that is printed")


def _run(arguments: argparse.Namespace) -> None:
    from argcomplete.shell_integration import shellcode

    print(shellcode(["xft"], shell=arguments.shell).strip())


def answer(parser: argparse.ArgumentParser) -> None:
    """Answer a shell and end the process, where ``ASKED`` is set; else return.

    Args:
        parser: of ``xft``, commands included.
    """
    import argcomplete

    for command, each in _commands(parser):
        for action in each._actions:
            fitting = _FITTING.get((command, action.metavar)) or _FITTING.get(("", action.metavar))
            if fitting is not None:
                action.completer = fitting  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _entries(prefix: str) -> list[Path]:
    """What lies where ``prefix`` points to, and begins as it does. Hidden entries are for those who ask."""
    folder, _, start = prefix.rpartition("/")
    place = Path(os.path.expanduser(f"{folder}/" if prefix.startswith("/") or folder else "."))
    try:
        found = sorted(place.iterdir())
    except OSError:  # nothing can be read there, so there is nothing to offer
        return []
    hidden = start.startswith(".")
    return [each for each in found if each.name.startswith(start) and (hidden or each.name[0] != ".")]


def _typed(prefix: str, path: Path) -> str:
    """A path as the person has begun to type it."""
    folder, slash, _ = prefix.rpartition("/")
    return f"{folder}{slash}{path.name}" + ("/" if path.is_dir() else "")


def _files(prefix: str, *suffixes: str, **_: Any) -> list[str]:
    return [
        _typed(prefix, each)
        for each in _entries(prefix)
        if each.is_dir() or not suffixes or each.suffix in suffixes
    ]


def configs(prefix: str, **_: Any) -> list[str]:
    """Config files; those of a folder ``configs`` at once, bases left out."""
    found = []
    for name in _files(prefix, ".py"):
        if name.endswith("configs/"):
            found += _files(name, ".py")
        else:
            found.append(name)
    return [each for each in found if not each.rstrip("/").rpartition("/")[2].startswith(("_", "."))]


def shipped(prefix: str, **_: Any) -> list[str]:
    """Names of shipped configs."""
    return [each.stem for each in sorted(paths.configs().glob("*.py")) if each.stem.startswith(prefix)]


def runs(prefix: str, **_: Any) -> list[str]:
    """Run folders, and those in a folder of them; other folders only where there are none."""
    found, others = _sorted_out(prefix, is_run)
    return found or others


def saved(prefix: str, **_: Any) -> list[str]:
    """Run folders, and folders of models and adapters."""
    found, others = _sorted_out(prefix, lambda each: is_run(each) or _holds(each, SAVED))
    return found or others


def _sorted_out(prefix: str, wanted: Callable[[Path], bool]) -> tuple[list[str], list[str]]:
    found, others = [], []
    for folder in (each for each in _entries(prefix) if each.is_dir()):
        name = _typed(prefix, folder)
        if wanted(folder):
            found.append(name.rstrip("/"))
        elif inside := [each for each in _entries(f"{folder}/") if each.is_dir() and wanted(each)]:
            found += [name + each.name for each in inside]
        else:
            others.append(name)
    return found, others


def is_run(folder: Path) -> bool:
    """Whether a folder looks like one that ``xft train`` has written."""
    return _holds(folder, ("config.py",)) and _holds(folder, RUN_FILES)


def _holds(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / each).is_file() for each in names)


def _kinds(prefix: str, **_: Any) -> list[str]:
    from xft.commands.catalog import kinds

    return [each for each in kinds() if each.startswith(prefix)]


def _sharding(prefix: str, **_: Any) -> list[str]:
    names = ("zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")
    return [each for each in names if each.startswith(prefix)] + _files(prefix, ".json")


def _resumed(prefix: str, **_: Any) -> list[str]:
    return ["auto"] * "auto".startswith(prefix) + runs(prefix)


def _folders(prefix: str, **_: Any) -> list[str]:
    return [each for each in _files(prefix) if each.endswith("/")]


def _nothing(prefix: str, **_: Any) -> list[str]:
    del prefix
    return []


_FITTING: dict[tuple[str, Any], Completer] = {
    ("", "CONFIG"): configs,
    ("copy", "CONFIG"): shipped,
    ("", "RUN"): runs,
    ("", "RUN_OR_CHECKPOINT"): saved,
    ("", "PATH"): saved,
    ("train", "PATH"): _resumed,
    ("", "DIR"): _folders,
    ("", "OUT"): _folders,
    ("", "FILE"): _files,
    ("", "KIND"): _kinds,
    ("", "NAME|FILE"): _sharding,
    **{
        ("", each): _nothing
        for each in ("N", "T", "K=V", "TEXT", "A,B", "OWNER/NAME", "SIZE", "ADDRESS", "NAME")
    },
}
"""What fits by command and metavar; where there is no line for a command, that of none."""

COMPLETION = Command(
    "print what completes xft in a shell",
    _add,
    _run,
    examples=tuple(f"xft completion {shell}" for shell in SHELLS),
    note="\n".join(["once for all:", *(f"  {shell:<5} {line}" for shell, line in SHELLS.items())]),
)
