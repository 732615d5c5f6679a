"""Checking a config: everything that is wrong, at once, before anything is built."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

import pytest

from xft.config import check
from xft.errors import ConfigError
from xft.registry import FORMATS
from xft.run_config.config import RunConfig

GOOD: dict[str, Any] = {
    "model": {"type": "causal_lm", "path": "p"},
    "data": {"type": "instruction", "path": "rows.jsonl"},
}


@dataclass
class Section:
    size: int
    share: float = 0.5


@dataclass
class Root:
    """A top level of our own, so that what is expected does not move with the engine."""

    name: str
    rate: float = 1.0
    kind: Literal["big", "small"] = "big"
    section: Section | None = None
    hooks: Mapping[str, Any] = field(default_factory=dict)
    format: Callable[..., Any] | None = None


def mistakes(config: Mapping[str, Any], root: Callable[..., Any] = RunConfig) -> list[str]:
    """The lines of the refusal below its heading."""
    with pytest.raises(ConfigError) as caught:
        check(config, root, "my.py")
    heading, *lines = str(caught.value).splitlines()
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    assert heading == f"my.py: {count}"
    return [each.strip() for each in lines]


def own_module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(dedent(text), encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_check_reports_all_mistakes_with_the_nearest_names() -> None:
    config = {
        "nmae": "x",
        "rate": "fast",
        "kind": "huge",
        "section": {"size": 1.5, "shar": 0.1},
        "format": {"type": "alpaca", "instrction": "q"},
    }
    assert mistakes(config, Root) == [
        "nmae: unknown key; did you mean 'name'?; names of helpers must begin with an underscore",
        "rate: got 'fast'; expected float",
        "kind: got 'huge'; expected one of 'big', 'small'",
        "section.size: got 1.5; expected int",
        "section.shar: unknown key; did you mean 'share'?",
        "format.instrction: unknown key; did you mean 'instruction'?",
        "name: missing; expected str",
    ]


def test_check_of_a_valid_config_passes() -> None:
    check({"name": "x", "rate": 2, "section": {"size": 1}, "format": "alpaca"}, Root)
    check(GOOD, RunConfig)


def test_missing_keys_are_named_with_their_type() -> None:
    lines = mistakes({"section": {}}, Root)
    assert lines == ["section.size: missing; expected int", "name: missing; expected str"]


def test_missing_arguments_of_a_component_are_named() -> None:
    assert mistakes({**GOOD, "model": {"type": "causal_lm"}}) == ["model.path: missing; expected str"]
    assert mistakes({**GOOD, "model": "causal_lm"}) == ["model.path: missing; expected str"]


def test_check_without_model_or_data_raises() -> None:
    lines = mistakes({})
    assert [each.partition(":")[0] for each in lines] == ["model", "data"]
    assert all("missing" in each for each in lines)


def test_mistakes_deep_inside_a_component_have_their_whole_path() -> None:
    adapter = {"type": "lora", "r": "16", "lora_alfa": 2}
    lines = mistakes({**GOOD, "adapter": adapter, "quantization": "nf5"})
    assert lines[0] == "adapter.r: got '16'; expected int in [1, 65536]"
    assert lines[1] == "adapter.lora_alfa: unknown key; did you mean 'lora_alpha'?"
    assert lines[2].startswith("quantization")
    assert "'nf4'" in lines[2]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "0"),
        ("seed", True),
        ("seed", 1.0),
        ("seed", None),
        ("eval_prompts", 3),
        ("work_dir", 3),
        ("model", None),
        ("training", 3),
        ("optimizer", 3),
        ("hooks", ["progress"]),
        ("training", {"epochs": None}),
        ("training", {"micro_batch_size": 1.5}),
        ("data", {"type": "instruction", "path": "p", "on_overlong": "trim"}),
        ("data", {"type": "instruction", "path": {"a": 1}}),
        ("model", {"type": "causal_lm", "path": "p", "gradient_checkpointing": 1}),
        ("optimizer", {"type": "adamw", "betas": 0.9}),
        ("optimizer", {"type": "torch.optim.AdamW", "lr": "fast"}),
    ],
)
def test_check_value_of_the_wrong_type_raises_with_its_path(key: str, value: Any) -> None:
    (line,) = mistakes({**GOOD, key: value})
    assert line.startswith(key)
    assert "got" in line
    assert "expected" in line


@pytest.mark.parametrize("key", ["model", "data", "optimizer", "training", "template"])
def test_check_list_in_place_of_a_component_or_section_raises(key: str) -> None:
    (line,) = mistakes({**GOOD, key: [1]})
    assert line.startswith(f"{key}: got [1]")


@pytest.mark.parametrize(("key", "name"), [("hooks", "progress"), ("loggers", "jsonl")])
def test_check_name_in_place_of_a_dict_of_components_raises(key: str, name: str) -> None:
    (line,) = mistakes({**GOOD, key: name})
    assert line.startswith(key)


@pytest.mark.parametrize("betas", [[0.9], [0.9, 0.99, 0.999], []])
def test_check_pair_with_another_number_of_items_raises(betas: list[float]) -> None:
    (line,) = mistakes({**GOOD, "optimizer": {"type": "adamw", "betas": betas}})
    assert line.startswith("optimizer.betas: got")


def test_check_accepts_int_for_float_and_list_for_tuple() -> None:
    check({**GOOD, "optimizer": {"type": "adamw", "lr": 1, "betas": [0, 0.9]}}, RunConfig)


def test_hooks_and_loggers_are_checked_one_by_one_and_none_removes_one() -> None:
    hooks = {
        "progress": {"type": "progress", "interva": 1},
        "mine": {"interval": 3},
        "number": 3,
        "gone": None,
        "short": "validation",
    }
    lines = mistakes({**GOOD, "hooks": hooks})
    assert lines == [
        "hooks.progress.interva: unknown key; did you mean 'interval'?",
        "hooks.mine: 'type' is missing; expected dict(type=..., ...)",
        "hooks.number: got 3; expected dict(type=..., ...)",
    ]


def test_check_misspelled_hook_names_the_nearest() -> None:
    hooks = {"progress": {"type": "progress"}, "progres": {"interval": 3}}
    (line,) = mistakes({**GOOD, "hooks": hooks})
    assert line.startswith("hooks.progres")
    assert "'progress'" in line


def test_check_unknown_component_names_the_nearest() -> None:
    (line,) = mistakes({**GOOD, "data": {"type": "instruction", "path": "p", "format": "alpca"}})
    assert line.startswith("data.format")
    assert "did you mean 'alpaca'" in line


def test_check_binds_a_component_by_dotted_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_module(
        tmp_path,
        monkeypatch,
        "own_check",
        """
        def rows(row, column: str, limit: int = 3):
            return row[column]

        class Hook:
            def __init__(self, every: int):
                self.every = every
        """,
    )
    config = {"name": "x", "format": {"type": "own_check.rows", "column": "a"}}
    check(config, Root)
    check({"name": "x", "hooks": {"mine": {"type": "own_check.Hook", "every": 2}}}, Root)
    wrong = {
        "name": "x",
        "format": {"type": "own_check.rows", "colum": "a", "limit": "many"},
        "hooks": {"mine": {"type": "own_check.Hook"}, "lost": {"type": "own_check.Hok"}},
    }
    lines = mistakes(wrong, Root)
    assert lines[0].startswith("format.colum: unknown key; did you mean 'column'")
    assert lines[1] == "format.limit: got 'many'; expected int"
    assert lines[2] == "hooks.mine.every: missing; expected int"
    assert lines[3].startswith("hooks.lost")
    assert "own_check.Hok" in lines[3]


def test_check_knows_the_names_that_a_component_with_a_dotted_path_registers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FORMATS, "_module_dict", dict(FORMATS.module_dict))
    own_module(
        tmp_path,
        monkeypatch,
        "own_registered",
        """
        from xft.registry import register

        @register("format", "registered_by_mine")
        def rows(row):
            return row

        class Hook:
            pass
        """,
    )
    hooks = {"mine": {"type": "own_registered.Hook"}}
    check({"name": "x", "format": "registered_by_mine", "hooks": hooks}, Root)


def test_check_component_with_keyword_arguments_accepts_any_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_module(tmp_path, monkeypatch, "own_open", "def rows(row, n: int = 1, **rest):\n    return row\n")
    check({"name": "x", "format": {"type": "own_open.rows", "anything": 1}}, Root)
    wrong = {"name": "x", "format": {"type": "own_open.rows", "n": "1"}}
    assert mistakes(wrong, Root) == ["format.n: got '1'; expected int"]


def test_annotations_that_cannot_be_read_back_do_not_stop_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_module(tmp_path, monkeypatch, "own_strange", "def rows(row, n: 'Nowhere' = 1):\n    return row\n")
    check({"name": "x", "format": {"type": "own_strange.rows", "n": 3}}, Root)
    (line,) = mistakes({"name": "x", "format": {"type": "own_strange.rows", "m": 3}}, Root)
    assert line.startswith("format.m: unknown key")


@pytest.mark.parametrize(
    "name",
    ["os.path", "os.sep", "no_such_module.thing", "json.no_such_name", "./formats.py", ".alpaca", "a."],
)
def test_check_type_that_cannot_be_imported_raises(name: str) -> None:
    (line,) = mistakes({"name": "x", "format": name}, Root)
    assert line.startswith("format")
    assert repr(name) in line


def test_check_class_without_a_signature_raises() -> None:
    (line,) = mistakes({"name": "x", "hooks": {"odd": {"type": "collections.OrderedDict"}}}, Root)
    assert line.startswith("hooks.odd")


def test_check_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_module(
        tmp_path,
        monkeypatch,
        "own_costly",
        """
        class Hook:
            def __init__(self, every: int = 1):
                raise AssertionError("built")
        """,
    )
    check({"name": "x", "hooks": {"costly": {"type": "own_costly.Hook", "every": 2}}}, Root)
