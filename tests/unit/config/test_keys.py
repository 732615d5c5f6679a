"""The list of all keys of a config."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from xft.commands.catalog import format_listing
from xft.config.keys import REQUIRED, ConfigKey, config_keys, plural


@dataclass
class Section:
    """A section.

    Args:
        size: number of rows. More is not shown.
    """

    size: int = 3


@dataclass
class Root:
    """A top level.

    Args:
        name: name of the run.
        optimizer: the optimizer.
    """

    name: str
    section: Section = field(default_factory=Section)
    optimizer: Any = None
    hooks: Any = None


def key_at(path: str) -> ConfigKey:
    return next(key for key in config_keys(Root) if key.path == path)


@pytest.mark.parametrize(
    ("path", "kind", "default", "summary"),
    [
        ("name", "str", REQUIRED, "name of the run"),
        ("section", "section", "", ""),
        ("section.size", "int", "3", "number of rows"),
        ("optimizer", "component (xft list optimizers)", "", "the optimizer"),
        ("hooks", "components (xft list hooks)", "", ""),
    ],
)
def test_key_has_type_default_and_summary(path: str, kind: str, default: str, summary: str) -> None:
    assert key_at(path) == ConfigKey(path, kind, default, summary)


def test_keys_of_a_registry_are_listed_once_with_the_components_that_have_them() -> None:
    assert "adamw" in key_at("optimizer.betas").components
    assert key_at("optimizer.weight_decay").components == ()
    assert key_at("optimizer.momentum").components == ("muon",)


def test_keys_of_hooks_are_below_the_name_of_each_hook() -> None:
    assert key_at("hooks.early_stopping.patience").type == "int in [1, 1e9]"


def test_line_has_path_type_default_and_summary() -> None:
    key = ConfigKey("a.b", "int", "3", "rows", ("x", "y"))
    assert key.format(5) == f"a.b    {'int = 3':<28}  rows  [x, y]"


def test_keys_of_the_command_line_are_listed_once_per_default() -> None:
    lines = format_listing("keys")
    paths = [line.split()[0] for line in lines]
    assert {"model.path", "data.max_length", "adapter.r", "training.epochs", "seed"} <= set(paths)
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize(
    ("key", "expected"),
    [("format", "formats"), ("strategy", "strategies"), ("hooks", "hooks"), ("data", "data")],
)
def test_plural(key: str, expected: str) -> None:
    assert plural(key) == expected
