"""``xft completion``: shell completion.

argcomplete (https://github.com/kislyuk/argcomplete) reads commands and options from the parser. This module adds the
values that a parser does not know: what fits in place of a metavar. No config is executed for it.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xft.commands.docs import pages
from xft.commands.options import METAVAR
from xft.commands.shared import Command
from xft.utils import paths
from xft.utils.console import echo
from xft.utils.presets import preset_methods, preset_models

Completer = Callable[..., list[str]]
COMPLETE_ENV = "_ARGCOMPLETE"
"""Environment variable that a shell sets to ask for completions."""
SHELLS = {
    "bash": "echo 'eval \"$(xft completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(xft completion zsh)\"' >> ~/.zshrc     (below compinit)",
    "fish": "xft completion fish > ~/.config/fish/completions/xft.fish",
}
"""Commands that enable completion permanently."""
MODEL_FILES = ("config.json", "adapter_config.json")
"""Files that mark a folder of transformers or peft."""
RUN_FILES = ("metrics.jsonl", "environment.json", "data_report.json")
"""Files that mark a run folder, next to ``config.py``."""
DEEPSPEED_PRESETS = ("zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=sorted(SHELLS), help="shell of the printed script")


def _run(arguments: argparse.Namespace) -> None:
    from argcomplete.shell_integration import shellcode

    echo(shellcode(["xft"], shell=arguments.shell).strip())


def complete(parser: argparse.ArgumentParser) -> None:
    """Print completions and exit the process if ``COMPLETE_ENV`` is set; return otherwise.

    Args:
        parser: parser of ``xft`` with all commands.
    """
    import argcomplete

    for name, command in _commands(parser):
        for action in command._actions:
            completer = _COMPLETERS.get((name, action.metavar)) or _COMPLETERS.get(("", action.metavar))
            if completer is not None:
                action.completer = completer  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def all_options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of all commands.

    Args:
        parser: parser of ``xft`` with all commands.
    """
    return {option for name, _ in _commands(parser) for option in options_of(parser, name)}


def options_of(parser: argparse.ArgumentParser, command: str) -> set[str]:
    """Return the options of one command.

    Args:
        parser: parser of ``xft`` with all commands.
        command: name of the command.
    """
    actions = dict(_commands(parser))[command]._actions
    return {option for action in actions for option in action.option_strings}


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _entries(prefix: str) -> list[Path]:
    """List the entries whose path begins with ``prefix``; hidden ones only if it names the dot."""
    folder, _, start = prefix.rpartition("/")
    parent = Path(os.path.expanduser(f"{folder}/" if prefix.startswith("/") or folder else "."))
    try:
        entries = sorted(parent.iterdir())
    except OSError:  # unreadable: nothing to offer
        return []
    hidden = start.startswith(".")
    return [entry for entry in entries if entry.name.startswith(start) and (hidden or entry.name[0] != ".")]


def _typed(prefix: str, path: Path) -> str:
    """Return a path in the form in which the user began to type it."""
    folder, slash, _ = prefix.rpartition("/")
    return f"{folder}{slash}{path.name}" + ("/" if path.is_dir() else "")


def _files(prefix: str, *suffixes: str, **_: object) -> list[str]:
    return [
        _typed(prefix, entry)
        for entry in _entries(prefix)
        if entry.is_dir() or not suffixes or entry.suffix in suffixes
    ]


def configs(prefix: str, **_: object) -> list[str]:
    """Complete config files without bases, those in a folder ``configs`` included."""
    names = []
    for name in _files(prefix, ".py"):
        names += _files(name, ".py") if name.endswith("configs/") else [name]
    return [name for name in names if not name.rstrip("/").rpartition("/")[2].startswith(("_", "."))]


def shipped(prefix: str, **_: object) -> list[str]:
    """Complete names of shipped configs and models."""
    names = [*(file.stem for file in sorted(paths.configs().glob("*.py"))), *preset_models()]
    return [name for name in names if name.startswith(prefix)]


def _configs_or_models(prefix: str, **_: object) -> list[str]:
    """Complete config files, and names of shipped models if some letters are given."""
    models = [name for name in preset_models() if prefix and name.startswith(prefix)]
    return [*configs(prefix), *models]


def _models(prefix: str, **_: object) -> list[str]:
    """Complete names of shipped models, and run folders and folders of models."""
    return [*(name for name in preset_models() if name.startswith(prefix)), *saved(prefix)]


def _pages(prefix: str, **_: object) -> list[str]:
    return [name for name in (*pages(), "all") if name.startswith(prefix)]


def _methods(prefix: str, **_: object) -> list[str]:
    return [name for name in preset_methods() if name.startswith(prefix)]


def runs(prefix: str, **_: object) -> list[str]:
    """Complete run folders, also one level down; other folders only if there are none."""
    matching, others = _filter(prefix, is_run)
    return matching or others


def saved(prefix: str, **_: object) -> list[str]:
    """Complete run folders and folders of models and adapters."""
    matching, others = _filter(prefix, lambda folder: is_run(folder) or _contains_any(folder, MODEL_FILES))
    return matching or others


def _filter(prefix: str, accepts: Callable[[Path], bool]) -> tuple[list[str], list[str]]:
    matching, others = [], []
    for folder in (entry for entry in _entries(prefix) if entry.is_dir()):
        name = _typed(prefix, folder)
        if accepts(folder):
            matching.append(name.rstrip("/"))
        elif inside := [entry for entry in _entries(f"{folder}/") if entry.is_dir() and accepts(entry)]:
            matching += [name + entry.name for entry in inside]
        else:
            others.append(name)
    return matching, others


def is_run(folder: Path) -> bool:
    """Return whether a folder looks like one that ``xft train`` wrote."""
    return _contains_any(folder, ("config.py",)) and _contains_any(folder, RUN_FILES)


def _contains_any(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)


def _kinds(prefix: str, **_: object) -> list[str]:
    from xft.commands.catalog import listable_kinds

    return [kind for kind in ("configs", "methods", "keys", *listable_kinds()) if kind.startswith(prefix)]


def _deepspeed(prefix: str, **_: object) -> list[str]:
    return [name for name in DEEPSPEED_PRESETS if name.startswith(prefix)] + _files(prefix, ".json")


def _resumable(prefix: str, **_: object) -> list[str]:
    return ["auto"] * "auto".startswith(prefix) + runs(prefix)


def _folders(prefix: str, **_: object) -> list[str]:
    return [name for name in _files(prefix) if name.endswith("/")]


def _no_completion(prefix: str, **_: object) -> list[str]:
    del prefix
    return []


_COMPLETERS: dict[tuple[str, Any], Completer] = {
    ("", METAVAR): _configs_or_models,
    ("copy", "CONFIG"): shipped,
    ("", "RUN"): runs,
    ("", "RUN_OR_CHECKPOINT"): saved,
    ("", "PATH"): saved,
    ("train", "PATH"): _resumable,
    ("", "DIR"): _folders,
    ("", "OUT"): _folders,
    ("", "FILE"): _files,
    ("", "TO"): _files,
    ("", "KIND"): _kinds,
    ("", "METHOD"): _methods,
    ("", "MODEL"): _models,
    ("", "PAGE"): _pages,
    ("", "NAME|FILE"): _deepspeed,
    **{
        ("", metavar): _no_completion
        for metavar in (
            "N",
            "T",
            "K=V",
            "TEXT",
            "A,B",
            "KEY=A,B",
            "OWNER/NAME",
            "SIZE",
            "ADDRESS",
            "NAME",
            "JSON",
            "GB",
        )
    },
}
"""Completer by command and metavar; an empty command is the fallback."""

COMPLETION = Command(
    "print the completion script of a shell",
    _add,
    _run,
    examples=tuple(f"xft completion {shell}" for shell in SHELLS),
    note="\n".join(
        ["to enable it permanently:", *(f"  {shell:<5} {line}" for shell, line in SHELLS.items())]
    ),
)
