"""``xft check``, ``list``, ``schema`` and ``copy``: configs and the components that they may name."""

import argparse
import json

from xft.commands.shared import Command, add_options
from xft.utils.console import echo


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a config file")
    add_options(parser)


def _check(arguments: argparse.Namespace) -> None:
    from xft.config import check, load_config, parse_overrides
    from xft.run_config.config import RunConfig

    config = load_config(arguments.config, parse_overrides(arguments.cfg_options), arguments.safe_config)
    check(config, RunConfig, arguments.config)
    echo(f"{arguments.config}: all keys are known and all values have the right type")


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        default="configs",
        metavar="KIND",
        help="configs (default), keys, or a kind of component: formats, templates, hooks, ...",
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
    parser.add_argument("name", metavar="CONFIG", help="name of a shipped config")
    parser.add_argument("to", nargs="?", default=".", metavar="DIR", help="folder or file to write")


def _copy(arguments: argparse.Namespace) -> None:
    from xft.commands.catalog import copy_config

    echo(f"wrote {copy_config(arguments.name, arguments.to)} with all values in one file")


CHECK = Command(
    "check a config without building anything",
    _add_check,
    _check,
    examples=("xft check configs/smollm2_lora.py",),
)
LIST = Command(
    "list shipped configs, the keys of a config, or its components",
    _add_list,
    _list,
    examples=(
        "xft list configs",
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
    examples=("xft copy smollm2_lora mine.py",),
)
