"""``xft new``: write a config that fits model, rows and machine."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from xft.commands.options import MIN_MEMORY, add_method
from xft.commands.shared import Command, importing, require_at_least
from xft.errors import ConfigError
from xft.utils.console import echo
from xft.utils.invocation import invocation

DEFAULT_MODEL = "smollm2"
ROWS = "a file, a folder, or owner/name of a hub dataset"
FORMAT = "data.format"
QUESTIONS = {
    "model": f"model: a shipped model (`xft list configs`), a folder, or owner/name of the hub [{DEFAULT_MODEL}]",
    "data": f"data: {ROWS}",
    "method": "method: one of `xft list methods` [chosen by rows and machine]",
    "memory": "memory in GB, if the config is for a GPU of another machine [this machine]",
}


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", nargs="?", metavar="FILE", help="config to write (default: MODEL_METHOD.py)")
    parser.add_argument(
        "format",
        nargs="?",
        metavar="K=V",
        help="data.format=FORMAT (default: chosen by the rows)",
    )
    parser.add_argument(
        "--model", metavar="MODEL", help="a shipped model, a folder, a run, or owner/name of the hub"
    )
    parser.add_argument("--data", metavar="FILE", help=f"rows: {ROWS}")
    add_method(parser)
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GB",
        help="memory of a GPU of another machine, on which the config is used",
    )


def _run(arguments: argparse.Namespace) -> None:
    words = [word for word in (arguments.out, arguments.format) if word is not None]
    formats = [word for word in words if word.startswith(f"{FORMAT}=")]
    arguments.out = next((word for word in words if word not in formats), None)
    if len(words) - len(formats) > 1 or len(formats) > 1:
        raise ConfigError(
            key="FILE",
            got=" ".join(words),
            expected=f"one file, and {FORMAT}=…; edit the file for other keys",
        )
    if arguments.model is None or arguments.data is None:
        _ask(arguments)
    require_at_least(arguments, MIN_MEMORY, "--memory")
    if arguments.out is not None:
        _check_target(Path(arguments.out))
    with importing():
        from xft.config.overrides import parse_overrides
        from xft.run_config.recipe.write import write_recipe

    format = parse_overrides(formats).get(FORMAT)
    recipe = write_recipe(arguments.model, arguments.data, arguments.method, arguments.memory, format)
    target = Path(arguments.out or f"{recipe.name}.py")
    _check_target(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(recipe.text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(key="FILE", got=str(target), expected=f"a file that can be written ({error.strerror})") from error  # fmt: skip
    echo(recipe.text)
    for note in recipe.notes:
        echo(f"note: {note}")
    name = shlex.quote(str(target))
    echo(f"wrote {target}; next:\n")
    echo(f"  {invocation('inspect-data')} {name}     # rows as the model sees them")
    echo(f"  {invocation('train')} {name} --dry-run  # memory and time of the run")
    echo(f"  {invocation('train')} {name}")


def _ask(arguments: argparse.Namespace) -> None:
    """Ask for what the command line leaves out.

    Raises:
        ConfigError: nobody can answer, or there are no rows.
    """
    if not sys.stdin.isatty():
        missing = [f"--{name}" for name in ("model", "data") if vars(arguments)[name] is None]
        raise ConfigError(
            key=missing[0], got="nothing", expected="a value, since no terminal is there to ask"
        )
    for name, question in QUESTIONS.items():
        if vars(arguments)[name] is None and (answer := _read_answer(name, question)):
            setattr(arguments, name, _memory(answer) if name == "memory" else os.path.expanduser(answer))
        if name == "data" and arguments.data is None:
            raise ConfigError(key=name, got="nothing", expected=ROWS)
    arguments.model = arguments.model or DEFAULT_MODEL


def _read_answer(name: str, question: str) -> str:
    """Ask a question, and return the answer without spaces and quotes around it; empty for the default.

    Raises:
        ConfigError: the input ends, or is no text.
    """
    echo(f"{question}: ", end="", flush=True)
    try:
        answer = input().strip()
    except (EOFError, UnicodeDecodeError) as error:
        echo()
        got = "the end of the input" if isinstance(error, EOFError) else "bytes that are no text"
        raise ConfigError(key=name, got=got, expected="an answer") from error
    # A terminal puts a path between quotes when a file is dropped on it.
    is_quoted = len(answer) > 1 and answer[0] == answer[-1] and answer[0] in "\"'"
    return answer[1:-1] if is_quoted else answer


def _memory(answer: str) -> float:
    try:
        return float(answer)
    except ValueError as error:
        raise ConfigError(key="--memory", got=answer, expected="a number of GB") from error


def _check_target(target: Path) -> None:
    if target.suffix != ".py" or target.exists():
        expected = "a new file" if target.exists() else "a file that ends in .py"
        raise ConfigError(key="FILE", got=str(target), expected=expected)


NEW = Command(
    "write a config that fits a model, rows and the machine",
    _add,
    _run,
    examples=(
        "xft new",
        "xft new --model smollm2 --data my_rows.csv --method lora mine.py",
        "xft new --model Qwen/Qwen2.5-0.5B-Instruct --data my_pairs.jsonl --memory 24",
    ),
)
