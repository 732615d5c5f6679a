"""Imports go down only: the rooms, their floors, and the one home of each foreign library."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    [*(ROOT / "xft").rglob("*.py"), *(ROOT / "tools").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
)

FLOORS = {
    **dict.fromkeys(("types", "errors", "registry", "utils", "compat", "version", "sandbox"), 0),
    **dict.fromkeys(("templates", "config", "doctor"), 1),
    **dict.fromkeys(("data", "losses", "kernels", "distributed"), 2),
    "models": 3,
    **dict.fromkeys(("objectives", "optim"), 4),
    **dict.fromkeys(("strategies", "evaluation", "export", "serving", "loggers"), 5),
    **dict.fromkeys(("rollouts", "checkpoint"), 6),
    "run_config": 7,
    **dict.fromkeys(("reporting", "migration"), 8),
    "training": 9,
    **dict.fromkeys(("commands", "cli", "__main__", "tools", "benchmarks"), 10),
}
BESIDE = {("tools", "cli"), ("benchmarks", "cli"), ("__main__", "cli"), ("cli", "commands")}
"""On the top floor alone: tools/*.py are thin over the command line."""

HOMES = {
    "peft": ("xft/compat/", "xft/models/", "xft/export/"),
    "bitsandbytes": ("xft/compat/", "xft/models/", "xft/optim/"),
    "deepspeed": ("xft/strategies/deepspeed/",),
}
"""Where a foreign library may be imported."""

FORBIDDEN = {"templates": {"transformers", "mmengine"}, "losses": {"transformers", "mmengine"}}
"""What a room must not import."""


def room_of(name: str) -> str:
    """The room of a file, given relative to the root: ``xft/data/splits.py`` is of ``data``."""
    parts = Path(name).with_suffix("").parts
    if parts[0] != "xft":
        return parts[0]
    return "version" if parts[1] == "__init__" else parts[1]


def imports(source: str, name: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a file imports, inside functions too. What is taken from
    a package is named with it: ``from xft.utils import paths`` gives ``xft.utils.paths``."""
    package = Path(name).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def trespasses(source: str, name: str) -> list[str]:
    """What a file imports and may not."""
    room = room_of(name)
    wrong = []
    for line, target in imports(source, name):
        top, _, below = target.partition(".")
        if top == "xft":
            other = "version" if below in ("", "__version__") else below.partition(".")[0]
            down = FLOORS[other] < FLOORS[room]
            if not (down or room == other or FLOORS[other] == FLOORS[room] == 0 or (room, other) in BESIDE):
                wrong.append(f"{name}:{line}: {room} imports {other}")
        elif top in FORBIDDEN.get(room, ()) or (top in HOMES and not name.startswith(HOMES[top])):
            wrong.append(f"{name}:{line}: {room} imports {top}")
        if target.rpartition(".")[2].startswith("AutoModel") and room != "models":
            wrong.append(f"{name}:{line}: {room} imports {target}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr.startswith("AutoModel") and room != "models":
            wrong.append(f"{name}:{node.lineno}: {room} uses {node.attr}")
    return wrong


def test_there_are_files_on_every_floor() -> None:
    rooms = {room_of(str(each.relative_to(ROOT))) for each in FILES}
    assert rooms <= set(FLOORS)
    assert {FLOORS[each] for each in rooms} == set(range(11))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_from_below_only(file: Path) -> None:
    assert trespasses(file.read_text(encoding="utf-8"), str(file.relative_to(ROOT))) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("xft/data/splits.py", "from xft.models import CausalLMConfig"),
        ("xft/data/splits.py", "import xft.training.train"),
        ("xft/data/splits.py", "from xft import training"),
        ("xft/data/splits.py", "from xft.losses import cross_entropy_sum"),
        ("xft/data/splits.py", "from ..losses import cross_entropy_sum"),
        ("xft/data/splits.py", "def f():\n    from xft.training import train"),
        (
            "xft/data/splits.py",
            "from importlib import import_module\nimport_module('xft.training')",
        ),
        ("xft/config/load.py", "from xft.templates import ChatTemplate"),
        ("xft/serving/session.py", "from xft.export import convert"),
        ("xft/errors.py", "from xft.config import check"),
        ("xft/__init__.py", "from xft.training import train"),
        ("xft/commands/catalog.py", "from xft.cli import main"),
        ("xft/cli.py", "import peft"),
        ("xft/templates/base.py", "import transformers"),
        ("xft/losses/dpo.py", "from mmengine.registry import Registry"),
        ("xft/training/train.py", "from peft import PeftModel"),
        ("xft/data/splits.py", "import bitsandbytes.nn"),
        ("xft/models/loading.py", "import deepspeed"),
        ("xft/training/train.py", "from transformers import AutoModelForCausalLM"),
        ("xft/export/verify.py", "import transformers\ntransformers.AutoModel.from_pretrained('x')"),
    ],
)
def test_a_trespass_is_seen(name: str, source: str) -> None:
    assert len(trespasses(source, name)) == 1


def test_what_is_allowed_passes() -> None:
    source = """
        import json
        from xft.utils import paths
        from xft.errors import ConfigError
        from xft.data.report import Ledger
        from . import packing
        from .packing import pack
        from ..templates import ChatTemplate
        """
    assert trespasses(dedent(source), "xft/data/splits.py") == []
    assert trespasses("from transformers import AutoModel\nimport peft", "xft/models/loading.py") == []
    assert trespasses("from xft.cli import main", "tools/train.py") == []
    assert trespasses("from xft.types import Row", "xft/utils/paths.py") == []


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the modules that each module imports, inside functions and for typing too.

    Args:
        sources: source text by file name, given relative to the root.
    """
    modules = {module_of(name): name for name in sources}
    graph: dict[str, set[str]] = {}
    for module, name in modules.items():
        targets = {
            target if target in modules else target.rpartition(".")[0]
            for _, target in imports(sources[name], name)
        }
        graph[module] = targets & modules.keys() - {module}
    return graph


def module_of(name: str) -> str:
    """Return the dotted name of a file: ``xft/data/__init__.py`` is ``xft.data``."""
    return ".".join(Path(name).with_suffix("").parts).removesuffix(".__init__")


def import_cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return all sets of modules that import each other, directly or through others."""
    reachable = {module: set(targets) for module, targets in graph.items()}
    for middle in graph:
        for targets in reachable.values():
            if middle in targets:
                targets.update(reachable[middle])
    cycles = {
        tuple(sorted(other for other in targets if module in reachable[other]))
        for module, targets in reachable.items()
        if module in targets
    }
    return [list(cycle) for cycle in sorted(cycles)]


def test_modules_have_no_import_cycle() -> None:
    sources = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in FILES}
    assert import_cycles(import_graph(sources)) == []


CYCLE = {
    "xft/a/__init__.py": "from xft.a.one import f",
    "xft/a/one.py": "from xft.a import two",
    "xft/a/two.py": "def g():\n    from .three import h",
    "xft/a/three.py": "from . import one",
    "xft/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import xft.c",
    "xft/c.py": "import xft.b\nfrom xft.a import f",
}


def test_import_cycles_through_functions_packages_and_typing_are_found() -> None:
    cycles = import_cycles(import_graph(CYCLE))
    assert cycles == [["xft.a.one", "xft.a.three", "xft.a.two"], ["xft.b", "xft.c"]]


def test_import_cycles_ignores_chains() -> None:
    assert import_cycles(import_graph({**CYCLE, "xft/a/three.py": "", "xft/b.py": ""})) == []


def test_import_cycles_import_of_the_own_package_is_found() -> None:
    sources = {"xft/a/__init__.py": "from xft.a.one import f", "xft/a/one.py": "from xft.a import f"}
    assert import_cycles(import_graph(sources)) == [["xft.a", "xft.a.one"]]
