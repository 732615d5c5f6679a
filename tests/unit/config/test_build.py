"""Building a config: one recursion, inner components first, constructors receive objects."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from xft.config import build, build_component
from xft.data.formats import alpaca
from xft.errors import ConfigError
from xft.evaluation.scorers import exact

PARTS = '''
"""Components of a user's own."""

LOG = []


class Inner:
    def __init__(self, size: int = 1):
        LOG.append("inner")
        self.size = size


class Outer:
    def __init__(self, path: str, adapter: Inner | None = None, options: dict | None = None):
        LOG.append("outer")
        self.path, self.adapter, self.options = path, adapter, options


class Hook:
    def __init__(self, scorer=None, every: int = 1):
        self.scorer, self.every = scorer, every


class Picky:
    def __init__(self, size: int = 1):
        raise ValueError(f"size {size} is odd")


class Deferred:
    def __init__(self, params, lr: float = 1.0):
        self.params, self.lr = params, lr


def mapped(row, column: str = "a"):
    return row[column]
'''


@dataclass
class Section:
    size: int
    share: float = 0.5


@dataclass
class Root:
    name: str = "x"
    section: Section = field(default_factory=lambda: Section(7))
    model: Any = None
    format: Callable[..., Any] | None = None
    optimizer: Callable[..., Any] | None = None
    hooks: Mapping[str, Any] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "own_parts.py").write_text(PARTS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    return import_module("own_parts")


def test_plain_values_and_sections_become_the_root() -> None:
    root = build({"name": "y", "section": {"size": 2}, "free": {"type": "anything"}}, Root)
    assert root == Root(name="y", section=Section(2, 0.5), free={"type": "anything"})


def test_build_missing_key_keeps_its_default() -> None:
    assert build({}, Root) == Root("x", Section(7))


def test_inner_components_are_built_first_and_given_as_objects(parts: ModuleType) -> None:
    model = {
        "type": "own_parts.Outer",
        "path": "p",
        "adapter": {"type": "own_parts.Inner", "size": 3},
        "options": {"a": 1},
    }
    root = build({"model": model}, Root)
    assert isinstance(root.model, parts.Outer)
    assert isinstance(root.model.adapter, parts.Inner)
    assert root.model.adapter.size == 3
    assert root.model.options == {"a": 1}
    assert parts.LOG == ["inner", "outer"]


def test_build_name_is_a_component_without_arguments(parts: ModuleType) -> None:
    root = build({"model": {"type": "own_parts.Outer", "path": "p", "adapter": "own_parts.Inner"}}, Root)
    assert root.model.adapter.size == 1


def test_none_builds_nothing(parts: ModuleType) -> None:
    root = build({"model": {"type": "own_parts.Outer", "path": "p", "adapter": None}}, Root)
    assert root.model.adapter is None


def test_build_binds_a_function_that_takes_a_row(parts: ModuleType) -> None:
    root = build({"format": {"type": "own_parts.mapped", "column": "b"}}, Root)
    assert root.format is not None
    assert root.format({"a": 1, "b": 2}) == 2


def test_build_binds_a_deferred_class_without_calling_it(parts: ModuleType) -> None:
    root = build({"optimizer": {"type": "own_parts.Deferred", "lr": 0.5}}, Root)
    assert isinstance(root.optimizer, partial)
    made = root.optimizer(["w"])
    assert (made.params, made.lr) == (["w"], 0.5)


def test_hooks_are_built_by_name_and_none_removes_one(parts: ModuleType) -> None:
    hooks = {
        "a": {"type": "own_parts.Hook", "every": 4, "scorer": "exact"},
        "b": None,
        "c": "own_parts.Hook",
    }
    built = build({"hooks": hooks}, Root).hooks
    assert list(built) == ["a", "c"]
    assert (built["a"].every, built["c"].every) == (4, 1)
    assert built["a"].scorer.func is exact


def test_build_constructor_that_raises_is_a_config_error_with_the_path(parts: ModuleType) -> None:
    model = {"type": "own_parts.Outer", "path": "p", "adapter": {"type": "own_parts.Picky", "size": 3}}
    with pytest.raises(ConfigError) as error:
        build({"model": model}, Root)
    assert str(error.value) == "model.adapter: size 3 is odd"


def test_build_root_that_raises_is_a_config_error() -> None:
    with pytest.raises(ConfigError) as error:
        build({"nme": "y"}, Root)
    assert str(error.value).startswith("config: ")
    assert "'nme'" in str(error.value)


def test_build_does_not_change_the_config(parts: ModuleType) -> None:
    config = {"model": {"type": "own_parts.Outer", "path": "p", "adapter": {"type": "own_parts.Inner"}}}
    build(config, Root)
    assert config == {
        "model": {"type": "own_parts.Outer", "path": "p", "adapter": {"type": "own_parts.Inner"}}
    }


def test_build_component_builds_one_slot() -> None:
    row = {"frage": "Add 1 and 2.", "output": "3"}
    bound = build_component("format", {"type": "alpaca", "instruction": "frage"})
    assert bound(row) == alpaca(row, instruction="frage")
    assert [each.content for each in bound(row)] == ["Add 1 and 2.", "3"]
    with pytest.raises(ConfigError) as error:
        build_component("format", "alpacca")
    assert error.value.got == "alpacca"
    assert "'alpaca'" in str(error.value)
