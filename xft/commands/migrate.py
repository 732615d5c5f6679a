"""``xft import``: a config of another tool as a config of xft."""

import argparse
from pathlib import Path

from xft.commands.shared import Command
from xft.errors import ConfigError
from xft.utils.console import echo
from xft.utils.invocation import invocation
from xft.utils.paths import write_text


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="config of XTuner, LLaMA-Factory, axolotl or TRL")
    parser.add_argument(
        "to", nargs="?", metavar="TO", help="file to write (default: the name of FILE, ending in .py)"
    )
    parser.add_argument(
        "--method",
        metavar="METHOD",
        help="sft, dpo, orpo, cpo, kto, reward or grpo, for TRL, whose configs do not name it",
    )


def _import(arguments: argparse.Namespace) -> None:
    from xft.migration import import_config

    file = Path(arguments.file)
    target = Path(arguments.to or f"{file.stem}.py")
    if target.exists():
        raise ConfigError(key="TO", got=str(target), expected="a file that does not exist yet")
    imported = import_config(file, arguments.method)
    write_text(target, imported.text)
    for line in imported.draft.table():
        echo(line)
    echo(f"wrote {target}; next: {invocation('check')} {target}, {invocation('train')} {target}")


IMPORT = Command(
    "write a config of XTuner, LLaMA-Factory, axolotl or TRL as a config of xft",
    _add_import,
    _import,
    examples=("xft import qwen_lora_sft.yaml", "xft import my_xtuner_config.py mine.py"),
    note="Nothing in FILE is executed.",
)
