"""Options of the commands that load a config: what to load, and which values to override."""

import argparse
import atexit
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from xft.commands.shared import importing, require_at_least
from xft.errors import ConfigError, did_you_mean
from xft.utils import paths
from xft.utils.console import echo
from xft.utils.system import rank_from_env

METAVAR = "CONFIG|KEY=VALUE"
MIN_MEMORY = 0.1
"""Smallest ``--memory``, in GB."""
OPTION_ALIASES = {
    "config": "CONFIG, without an option before it",
    "output_dir": "--work-dir",
    "model_name_or_path": "--model",
    "model_name": "--model",
    "model_path": "--model",
    "base_model": "--model",
    "dataset": "--data",
    "dataset_name": "--data",
    "data_path": "--data",
    "train_file": "--data",
    "finetuning_type": "--method",
    "epochs": "training.epochs",
    "num_epochs": "training.epochs",
}
"""Option of another tool to the option or the key of xft; other options are looked up among foreign keys."""
FILES = (".py", ".json", ".jsonl", ".csv", ".txt", ".yaml", ".yml")
"""Endings of files, which no name of the hub has."""
_OVERRIDE = re.compile(r"[A-Za-z_][\w.]*=")
_KEY = re.compile(r"[a-z_][\w.]*")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG, overrides, and the options of all commands that load a config (see :func:`resolve_options`)."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar=METAVAR,
        help="a config file or a shipped config (`xft list configs`), and values to override, e.g. "
        "data.max_length=1024 adapter.target_modules=[q_proj,v_proj]",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="instead of CONFIG: make a config as `xft new` does, for a model, --data and --method",
    )
    add_method(parser)
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="the rows: data.path=FILE, and, if the config is shipped, data.val_split=auto eval_prompts=val_rows",
    )
    parser.add_argument("--memory", type=float, metavar="GB", help=argparse.SUPPRESS)
    parser.add_argument("--temporary-config", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="K=V",
        help="the same as KEY=VALUE after CONFIG",
    )
    parser.add_argument(
        "--safe-config",
        action="store_true",
        help="parse the config without executing it (for untrusted configs)",
    )


def add_method(parser: argparse.ArgumentParser) -> None:
    """Add ``--method``."""
    parser.add_argument(
        "--method",
        metavar="METHOD",
        help="how the model is trained: one of `xft list methods`",
    )


def resolve_options(arguments: argparse.Namespace) -> None:
    """Set ``arguments.config`` and ``arguments.cfg_options`` from the words and shortcuts of a command line.

    Raises:
        XftError: there is no config, or more than one, or the model or the method is not shipped; or no config can be
            made for the model.
    """
    words: list[str] = arguments.words
    overrides = [word for word in words if _OVERRIDE.match(word) and not Path(word).exists()]
    configs = [word for word in words if word not in overrides]
    if arguments.model is None and len(configs) == 1 and _is_model(configs[0]):
        arguments.model = configs.pop()
    if len(configs) != (arguments.model is None):
        expected = "no config with --model" if arguments.model else "one config, then KEY=VALUE"
        raise ConfigError(
            key="CONFIG",
            got=" ".join(configs) or "nothing",
            expected=expected,
            fix="`xft list configs` shows the shipped ones; `xft train --model MODEL --data FILE` needs none",
        )
    arguments.cfg_options = [*overrides, *arguments.cfg_options]
    if arguments.model is not None:
        arguments.config = arguments.temporary_config or _make_config(arguments)
        return
    from xft.utils.presets import find_config, name_with_method

    arguments.config = configs[0]
    if arguments.method is not None:
        arguments.config = name_with_method(arguments.config, arguments.method)
    # Why here: the libraries that read a config take most of a second to import.
    find_config(Path(arguments.config))
    if arguments.data is not None:
        # The validation split and the sample questions of a shipped config fit its own rows.
        others = (
            ["data.val_split=auto", f"eval_prompts={paths.VAL_ROWS}"] if _is_shipped(configs[0]) else []
        )
        arguments.cfg_options[:0] = [f"data.path={arguments.data!r}", *others]


def _is_shipped(config: str) -> bool:
    """Return whether a config is in the folder of shipped configs, by its name or its path."""
    from xft.utils.presets import find_preset

    folder = paths.configs().resolve()
    if Path(config).is_file():
        return Path(config).resolve().parent == folder
    return find_preset(config) is not None or (folder / f"{config}.py").is_file()


def _is_model(word: str) -> bool:
    """Return whether CONFIG is a folder with a model, or a name of the hub."""
    path = Path(word).expanduser()
    if path.is_dir():
        names = ("config.json", "adapter_config.json", "final")
        return any((path / name).exists() for name in names)
    is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", word) is not None and path.suffix not in FILES
    return is_name and not path.parent.exists()


def _make_config(arguments: argparse.Namespace) -> str:
    """Write the config that ``xft new`` would write into a temporary folder, and return its path.

    Raises:
        XftError: model, rows or method cannot be used.
    """
    if arguments.data is None:
        raise ConfigError(
            key="--data", got="nothing", expected="a file, a folder, or owner/name of a hub dataset"
        )
    require_at_least(arguments, MIN_MEMORY, "--memory")
    with importing():
        from xft.config.overrides import parse_overrides
        from xft.run_config.recipe.write import write_recipe
    format = parse_overrides(arguments.cfg_options).get("data.format")
    recipe = write_recipe(arguments.model, arguments.data, arguments.method, arguments.memory, format)
    folder = Path(tempfile.mkdtemp(prefix="xft-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / f"{recipe.name}.py"
    file.write_text(recipe.text, encoding="utf-8")
    if rank_from_env(arguments.launcher) == 0:
        for note in recipe.notes:
            echo(f"note: {note}", error=True)
    return str(file)


def explain_option(word: str, value: str, known: Iterable[str] = ()) -> str:
    """Return what to write for an option that xft does not have.

    Args:
        word: the option, with or without ``=VALUE``.
        value: the next word of the command line.
        known: options of the command.
    """
    from xft.config.foreign_keys import translate

    option, _, given = word.partition("=")
    name = option.lstrip("-").replace("-", "_")
    value = given or ("True" if value.startswith("-") or not value else value)
    target = OPTION_ALIASES.get(name) or translate(name)
    if target is None and "." in name:
        target = name
    if target is None:
        near = did_you_mean(option, known)
        return f"unrecognized arguments: {option}" + (f"; {near}" if near.startswith("did") else "")
    if _KEY.fullmatch(target):
        return f"unrecognized arguments: {option}; write {target}={value} after CONFIG"
    return f"unrecognized arguments: {option}; in xft this is {target}"
