"""``xft check``, ``xft list`` and ``xft copy``: configs and what they may name."""

import argparse

from xft.commands.shared import Command, add_options


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a config file")
    add_options(parser)


def _check(arguments: argparse.Namespace) -> None:
    from xft.config import check, load_config, parse_overrides
    from xft.run_config.config import Recipe

    config = load_config(arguments.config, parse_overrides(arguments.cfg_options), arguments.safe_config)
    check(config, Recipe, arguments.config)
    print(f"{arguments.config}: every key is known, and every value fits")


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        default="configs",
        metavar="KIND",
        help="configs (default), or a kind of component: formats, templates, hooks, ...",
    )


def _list(arguments: argparse.Namespace) -> None:
    from xft.commands.catalog import listing

    print("\n".join(listing(arguments.what)))


def _add_copy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="CONFIG", help="the name of a shipped config")
    parser.add_argument("to", nargs="?", default=".", metavar="DIR", help="where the copy goes")


def _copy(arguments: argparse.Namespace) -> None:
    from xft.commands.catalog import copy_config

    print(
        f"wrote {copy_config(arguments.name, arguments.to)}; it has all values in one file, change what you like"
    )


CHECK = Command(
    "check a config without building anything",
    _add_check,
    _check,
    examples=("xft check configs/smollm2_lora.py",),
)
LIST = Command(
    "list the shipped configs, or the components that a config may name",
    _add_list,
    _list,
    examples=(
        "xft list configs",
        "xft list formats",
    ),
)
COPY = Command(
    "copy a shipped config, to change it",
    _add_copy,
    _copy,
    examples=("xft copy smollm2_lora mine.py",),
)
