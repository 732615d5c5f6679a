"""``xft check``, ``list``, ``schema`` and ``copy``: configs and the components that they may name."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from xft.commands.options import add_method, add_options
from xft.commands.shared import Command, importing
from xft.utils.console import echo

if TYPE_CHECKING:
    from xft.run_config.config import RunConfig


def _add_check(parser: argparse.ArgumentParser) -> None:
    add_options(parser)


def _check(arguments: argparse.Namespace) -> None:
    from xft.commands.precheck import check_files
    from xft.config import build, check, load_config, parse_overrides
    from xft.config.snapshot import quick_check, save_snapshot

    config = load_config(arguments.config, parse_overrides(arguments.cfg_options), arguments.safe_config)
    has_rows = "data.path=" in " ".join(arguments.cfg_options) or not _is_shipped(arguments.config)
    unread = check_files(config) if quick_check(config, arguments.config) and has_rows else None
    # Why: this imports torch, for which a mistake that is found without it need not wait.
    with importing():
        from xft.run_config.config import RunConfig

    check(config, RunConfig, arguments.config)
    save_snapshot(RunConfig)
    run_config = build(config, RunConfig)
    echo(f"{arguments.config}: all keys are known and all values have the right type")
    if has_rows:
        unread = check_files(config) if unread is None else unread
        echo("the format fits the first rows" + _open_tokenizer(run_config))
    if unread:
        names = ", ".join(f"{name!r:.60} ({count:,} rows)" for name, count in unread.most_common())
        echo(f"not read by the format: {names}")


def _is_shipped(config: str) -> bool:
    """Return whether the rows of a config are a placeholder for those of the user."""
    from xft.utils import paths
    from xft.utils.presets import find_preset

    file = Path(config)
    folder = paths.configs()
    return (
        file.resolve().parent == folder.resolve()
        or find_preset(config) is not None
        or (folder / f"{config}.py").is_file()
    )


def _open_tokenizer(run_config: "RunConfig") -> str:
    """Load tokenizer and template if they are on this machine, and return what was done.

    Raises:
        XftError: the tokenizer or the template cannot be used.
    """
    from xft.utils import paths

    path = (
        str(paths.bundled_model())
        if run_config.model.path.startswith(paths.SCHEME)
        else run_config.model.path
    )
    if not Path(path).expanduser().is_dir():
        return "; the tokenizer is not on this machine"
    tokenizer = run_config.model.load_tokenizer()
    if run_config.data.uses_template:
        run_config.template.bind(tokenizer)
    return "; tokenizer and template can be used"


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        default="configs",
        metavar="KIND",
        help="configs (default), methods, keys, or a kind of component: formats, templates, hooks, ...",
    )


def _list(arguments: argparse.Namespace) -> None:
    from xft.commands.catalog import format_listing

    echo("\n".join(format_listing(arguments.what)))


def _add_schema(parser: argparse.ArgumentParser) -> None:
    del parser  # no arguments


def _schema(arguments: argparse.Namespace) -> None:
    del arguments
    from xft.config.schema import json_schema
    from xft.run_config.config import RunConfig

    echo(json.dumps(json_schema(RunConfig), indent=2, ensure_ascii=False))


def _add_copy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="CONFIG", help="name of a shipped config or model")
    add_method(parser)
    parser.add_argument("to", nargs="?", default=".", metavar="DIR", help="folder or file to write")


def _copy(arguments: argparse.Namespace) -> None:
    from xft.commands.catalog import copy_config
    from xft.utils.presets import name_with_method

    name = arguments.name
    if arguments.method is not None:
        name = name_with_method(name, arguments.method)
    echo(f"wrote {copy_config(name, arguments.to)} with all values in one file")


CHECK = Command(
    "check keys and values of a config, its first rows and its tokenizer",
    _add_check,
    _check,
    examples=("xft check smollm2_lora",),
)
LIST = Command(
    "list shipped configs, the keys of a config, or its components",
    _add_list,
    _list,
    examples=(
        "xft list configs",
        "xft list methods",
        "xft list keys",
        "xft list formats",
    ),
)
SCHEMA = Command(
    "print the JSON Schema of configs, for editors and agents",
    _add_schema,
    _schema,
    examples=("xft schema",),
)
COPY = Command(
    "copy a shipped config to edit it",
    _add_copy,
    _copy,
    examples=("xft copy smollm2_lora mine.py", "xft copy qwen3_8b mine.py --method orpo"),
)
