"""A callback after each statement of a config, base files first."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.config import config as mmengine_config

from xft.compat.mmengine_config import Scope, patched_import_transformer

BASE = "a = 1\nb = a + 1\n"
LEAF = "from __future__ import annotations\nfrom mmengine.config import read_base\n\nwith read_base():\n    from .base import *\n\nb = 5\nc = b\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "base.py").write_text(BASE, encoding="utf-8")
    (tmp_path / "leaf.py").write_text(LEAF, encoding="utf-8")
    return tmp_path / "leaf.py"


def values(scope: Scope) -> dict[str, object]:
    return {name: scope[name] for name in ("a", "b", "c") if name in scope}


def test_callback_sees_the_variables_after_each_statement(config: Path) -> None:
    seen: list[dict[str, object]] = []
    with patched_import_transformer(lambda scope: seen.append(values(scope))):
        Config.fromfile(config, lazy_import=True)
    assert seen[:2] == [{"a": 1}, {"a": 1, "b": 2}]
    assert seen[-2:] == [{"a": 1, "b": 5}, {"a": 1, "b": 5, "c": 5}]


def test_callback_may_change_the_variables(config: Path) -> None:
    def override(scope: Scope) -> None:
        if "b" in scope:
            scope["b"] = 7

    with patched_import_transformer(override):
        loaded = Config.fromfile(config, lazy_import=True)
    assert (loaded["a"], loaded["b"], loaded["c"]) == (1, 7, 7)


def test_original_transformer_is_restored_after_an_error(config: Path) -> None:
    original = mmengine_config.ImportTransformer

    def fail(scope: Scope) -> None:
        raise KeyError("callback")

    with pytest.raises(KeyError), patched_import_transformer(fail):
        Config.fromfile(config, lazy_import=True)
    assert mmengine_config.ImportTransformer is original
