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


def test_what_is_not_said_keeps_its_default() -> None:
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


def test_a_name_alone_is_a_component_without_arguments(parts: ModuleType) -> None:
    root = build({"model": {"type": "own_parts.Outer", "path": "p", "adapter": "own_parts.Inner"}}, Root)
    assert root.model.adapter.size == 1


def test_none_builds_nothing(parts: ModuleType) -> None:
    root = build({"model": {"type": "own_parts.Outer", "path": "p", "adapter": None}}, Root)
    assert root.model.adapter is None


def test_a_function_is_bound_and_still_wants_its_row(parts: ModuleType) -> None:
    root = build({"format": {"type": "own_parts.mapped", "column": "b"}}, Root)
    assert root.format is not None
    assert root.format({"a": 1, "b": 2}) == 2


def test_a_deferred_class_is_bound_and_not_made(parts: ModuleType) -> None:
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


def test_a_constructor_that_refuses_is_a_config_error_with_the_path(parts: ModuleType) -> None:
    model = {"type": "own_parts.Outer", "path": "p", "adapter": {"type": "own_parts.Picky", "size": 3}}
    with pytest.raises(ConfigError, match=r"^model\.adapter: size 3 is odd$"):
        build({"model": model}, Root)


def test_the_root_itself_can_refuse() -> None:
    with pytest.raises(ConfigError, match=r"^config: .*'nme'"):
        build({"nme": "y"}, Root)


def test_the_config_is_not_changed_by_building(parts: ModuleType) -> None:
    config = {"model": {"type": "own_parts.Outer", "path": "p", "adapter": {"type": "own_parts.Inner"}}}
    build(config, Root)
    assert config == {
        "model": {"type": "own_parts.Outer", "path": "p", "adapter": {"type": "own_parts.Inner"}}
    }


def test_one_slot_can_be_built_alone() -> None:
    row = {"frage": "Add 1 and 2.", "output": "3"}
    bound = build_component("format", {"type": "alpaca", "instruction": "frage"})
    assert bound(row) == alpaca(row, instruction="frage")
    assert [each.content for each in bound(row)] == ["Add 1 and 2.", "3"]
    with pytest.raises(ConfigError, match="did you mean 'alpaca'"):
        build_component("format", "alpacca")
