"""Dumping configs as Python files."""

import ast
import math
from dataclasses import dataclass, field
from keyword import iskeyword
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from xft.config import dump_config, load_config
from xft.config.dump import format_docstring


@dataclass
class Section:
    """A section.

    Args:
        size: number of rows. Not shown.
        kind: shape of a row.
    """

    size: int = 1
    kind: Literal["big", "small"] = "big"


@dataclass
class Root:
    """A top level.

    Args:
        name: name of the run.
        section: all about rows.
        scorer: comparison of an answer
            with its reference.
        hooks: actions between steps.
    """

    name: str = "x"
    section: Section = field(default_factory=Section)
    scorer: Any = None
    hooks: Any = None


def test_dump_with_root_comments_keys_and_names_alternatives() -> None:
    config = {
        "name": "y",
        "section": {"size": 2, "kind": "big"},
        "scorer": {"type": "exact"},
        "hooks": {"progress": {"type": "progress"}, "gone": None},
        "other": {"a": 1},
    }
    text = dump_config(config, root=Root)
    assert text.startswith(
        """\
name = "y"  # name of the run

# all about rows
section = dict(
    size=2,  # number of rows
    kind="big",  # shape of a row; or: "small"
)

# comparison of an answer with its reference
scorer = dict(
    type="exact",  # or: """
    )
    assert text.endswith(
        """
hooks = dict(progress=dict(type="progress"), gone=None)  # actions between steps
other = dict(a=1)
"""
    )


def test_dump_of_unknown_or_dotted_component_has_no_comments() -> None:
    config = {"scorer": {"type": "no.such.thing", "a": 1}, "hooks": {"a": {"type": "nothing"}}}
    lines = dump_config(config, root=Root).splitlines()
    assert "    a=1," in lines
    assert not any("hooks.a" in line for line in lines)


def test_dump_breaks_long_values_and_loads_them_back(tmp_path: Path) -> None:
    config = {"a": {"names": [f"name_{number}" for number in range(30)], "b": {"c": "x" * 90, "d": (1,)}}}
    text = dump_config(config, tmp_path / "long.py")
    assert max(map(len, text.splitlines())) <= 108
    assert load_config(tmp_path / "long.py") == config


def test_dump_config_is_assignments_of_literals_without_imports(tmp_path: Path) -> None:
    text = dump_config({"a": {"b": [1, (2.5, None)]}, "c": "it's"}, tmp_path / "out.py")
    assert text == 'a = dict(b=[1, (2.5, None)])\nc = "it\'s"\n'
    assert (tmp_path / "out.py").read_text(encoding="utf-8") == text


def test_dumping_without_a_path_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dump_config({"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_dump_config_keeps_the_order(tmp_path: Path) -> None:
    config = {"z": 1, "a": {"y": 1, "b": 2}}
    dump_config(config, tmp_path / "order.py")
    loaded = load_config(tmp_path / "order.py")
    assert list(loaded) == ["z", "a"]
    assert list(loaded["a"]) == ["y", "b"]


RESERVED = {"filename", "text", "pretty_text", "env_variables"}  # by mmengine's Config
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in RESERVED and not iskeyword(name)
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=120)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def typed(value: Any) -> Any:
    """A value with the type of each part, so that ``1``, ``1.0`` and ``True`` differ."""
    if isinstance(value, dict):
        return [(key, typed(each)) for key, each in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [typed(each) for each in value]
    if isinstance(value, float):
        return float, value, math.copysign(1, value)
    return type(value), value


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(config=st.dictionaries(NAMES, VALUES, max_size=5))
@example(config={"a": {"type": "torch.nn.Linear", "_delete_": True, "_scope_": "mmengine"}})
@example(config={"a": "long " * 60, "b": ["quote ' and \" and \\ and \n " * 8], "c": ""})
@example(config={"dict": 1, "a": {"b": 1, "__debug__": 2, "if": 3}})
@example(config={"a": {"\ufb01": 1, "b": {"c d": {"e": []}}}})
@example(config={"a": {"": (1,), "x.y": ()}, "b": 10**30, "c": -0.0, "d": {}, "e": "{{fileDirname}}"})
def test_dump_config_and_load_config_are_inverse(tmp_path: Path, config: dict[str, Any]) -> None:
    file = tmp_path / "dumped.py"
    dump_config(config, file)
    assert typed(load_config(file)) == typed(config)


@given(st.text())
@example('"""')
@example("a\\")
@example("\udc80\n")
def test_any_text_is_a_docstring(text: str) -> None:
    module = ast.parse(format_docstring(text))
    assert ast.get_docstring(module, clean=False) == text
    assert "\n" not in format_docstring(text)
