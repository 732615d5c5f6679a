"""Overrides from the command line reach everything that is derived."""

from copy import deepcopy
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from xft.config import load_config, parse_overrides
from xft.errors import ConfigError

READ = "from mmengine.config import read_base\n\nwith read_base():\n"


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(dedent(text), encoding="utf-8")
    return file


def refusal_of(file: Path, *options: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file, parse_overrides(options))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1024", 1024),
        ("1e-4", 0.0001),
        ("-0.5", -0.5),
        ("true", True),
        ("False", False),
        ("none", None),
        ("NULL", None),
        ("(0.9, 0.95)", (0.9, 0.95)),
        ("['q_proj', 'v_proj']", ["q_proj", "v_proj"]),
        ("{'type': 'lora', 'r': 8}", {"type": "lora", "r": 8}),
        ("'1024'", "1024"),
        ("my rows.jsonl", "my rows.jsonl"),
        ("xft://facts.jsonl", "xft://facts.jsonl"),
        ("a=b", "a=b"),
        ("__import__('os')", "__import__('os')"),
        ("", ""),
        ("[q_proj,v_proj]", ["q_proj", "v_proj"]),
        ("(0.9,0.95)", (0.9, 0.95)),
        ("[rows/a.jsonl, b-1.csv#5]", "[rows/a.jsonl, b-1.csv#5]"),
        ("[rows/a.jsonl,b.csv]", ["rows/a.jsonl", "b.csv"]),
        ("[none, true, 1e-4, 'None']", [None, True, 1e-4, "None"]),
        ("{type: columns, user: q}", {"type": "columns", "user": "q"}),
        ("dict(type='columns',user=q)", {"type": "columns", "user": "q"}),
        ("dict(r=8, names=[a,b])", {"r": 8, "names": ["a", "b"]}),
        ("dict(1, a=2)", "dict(1, a=2)"),
        ("'{**a}'", "{**a}"),
        ("[open('a')]", ["open('a')"]),
        ("[a b]", "[a b]"),
    ],
)
def test_values_are_literals_words_or_text(text: str, value: object) -> None:
    parsed = parse_overrides([f"data.x={text}"])
    assert parsed == {"data.x": value}
    assert type(parsed["data.x"]) is type(value)


@pytest.mark.parametrize(
    "text", ["{**x}", "{'r': 8, **x}", "dict(**x)", "[*x]", "(1, *x)", "[{**x}]", "dict(a={**x})"]
)
def test_a_value_that_unpacks_a_variable_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_overrides([f"adapter={text}", "seed=1"])
    (cause,) = caught.value.causes
    assert (cause.key, cause.got) == ("adapter", text)


def test_parse_overrides_repeated_key_takes_the_last_value() -> None:
    assert parse_overrides(["seed=1", "seed=2"]) == {"seed": 2}


def test_parse_overrides_reports_all_malformed_options() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_overrides(["seed", "ok=1", "=3", "a..b=1", "a b=1"])
    message = str(caught.value)
    for option in ("'seed'", "'=3'", "'a..b=1'", "'a b=1'"):
        assert f"got {option}; expected KEY=VALUE" in message
    assert [cause.got for cause in caught.value.causes] == ["seed", "=3", "a..b=1", "a b=1"]


def test_values_derived_in_the_same_file_follow(tmp_path: Path) -> None:
    file = write(tmp_path, "one.py", "n = 8\ndouble = n * 2\nsection = dict(n=n, text=f'{n} rows')\n")
    assert load_config(file, {"n": 3}) == {"n": 3, "double": 6, "section": {"n": 3, "text": "3 rows"}}


def test_values_derived_in_base_and_leaf_follow(tmp_path: Path) -> None:
    write(tmp_path, "sizes.py", "data = dict(max_length=2048)\nhalf = data['max_length'] // 2\n")
    leaf = write(
        tmp_path,
        "leaf.py",
        READ + "    from .sizes import *\n\nquarter = half // 2\nrows = [data['max_length']] * 2\n",
    )
    assert load_config(leaf, {"data.max_length": 64}) == {
        "data": {"max_length": 64},
        "half": 32,
        "quarter": 16,
        "rows": [64, 64],
    }


def test_values_derived_two_bases_down_follow(tmp_path: Path) -> None:
    write(tmp_path, "ground.py", "n = 8\nm = n + 1\n")
    write(tmp_path, "middle.py", READ + "    from .ground import *\n\nk = m * 10\n")
    leaf = write(tmp_path, "top.py", READ + "    from .middle import *\n\nj = k + n\n")
    assert load_config(leaf, {"n": 1}) == {"n": 1, "m": 2, "k": 20, "j": 21}


def test_override_wins_over_a_later_assignment_of_the_leaf(tmp_path: Path) -> None:
    write(tmp_path, "rates.py", "optimizer = dict(lr=1.0, eps=0.5)\n")
    leaf = write(
        tmp_path,
        "later.py",
        READ
        + "    from .rates import *\n\n"
        + "optimizer.update(lr=2.0)\nseen = optimizer['lr']\noptimizer['lr'] += 1\n",
    )
    config = load_config(leaf, {"optimizer.lr": 9.0})
    assert config == {"optimizer": {"lr": 9.0, "eps": 0.5}, "seen": 9.0}


def test_override_of_a_variable_of_a_base(tmp_path: Path) -> None:
    write(tmp_path, "helper.py", "_adapter = dict(r=16)\n")
    leaf = write(
        tmp_path, "uses.py", READ + "    from .helper import *\n\nmodel = dict(adapter=_adapter)\n"
    )
    assert load_config(leaf, {"_adapter.r": 4}) == {"model": {"adapter": {"r": 4}}}


def test_without_overrides_a_config_stays_as_written(tmp_path: Path) -> None:
    file = write(tmp_path, "same.py", "n = 8\nm = n * 2\n")
    load_config(file, {"n": 3})
    assert load_config(file) == {"n": 8, "m": 16}


def test_override_of_a_file_with_a_future_import(tmp_path: Path) -> None:
    file = write(tmp_path, "future.py", "'''doc'''\nfrom __future__ import annotations\nn = 8\nm = n * 2\n")
    assert load_config(file, {"n": 3}) == {"n": 3, "m": 6}


def test_items_of_lists_are_reached_by_number(tmp_path: Path) -> None:
    file = write(tmp_path, "items.py", "x = [1, dict(a=2)]\ny = x[0] + x[1]['a']\n")
    assert load_config(file, {"x.0": 5, "x.1.a": 7}) == {"x": [5, {"a": 7}], "y": 12}


def test_override_beyond_the_end_of_a_list_raises(tmp_path: Path) -> None:
    file = write(tmp_path, "short.py", "x = [1, 2]\n")
    assert "x.2: the list has 2 items" in refusal_of(file, "x.2=5")


def test_override_of_a_section_is_not_changed_by_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "section.py",
        """
        model = dict(adapter=dict(r=64))
        model['adapter'].update(r=16)
        scale = 2 * model['adapter']['r']
        """,
    )
    config = load_config(file, parse_overrides(["model.adapter={'r': 4}"]))
    assert config == {"model": {"adapter": {"r": 4}}, "scale": 8}


def test_override_of_a_list_is_not_changed_by_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "grows.py", "tags = ['a']\ntags.append('b')\n")
    assert load_config(file, parse_overrides(["tags=['c']"])) == {"tags": ["c"]}


def test_load_config_does_not_change_the_overrides(tmp_path: Path) -> None:
    file = write(tmp_path, "keeps.py", "tags = dict(a=1)\ntags.update(b=2)\n")
    overrides: dict[str, Any] = {"tags": {"c": 3}}
    before = deepcopy(overrides)
    load_config(file, overrides)
    assert overrides == before


def test_paths_that_lead_through_nothing_are_all_reported_with_near_names(tmp_path: Path) -> None:
    file = write(tmp_path, "paths.py", "data = dict(max_length=1, inner=dict(x=1))\nseed = 0\n")
    message = refusal_of(file, "dta.size=2", "data.iner.x=2", "zzz.y=1")
    lines = message.splitlines()
    assert len(lines) == 3
    assert lines[0] == "dta.size: dta is not in the config; did you mean 'data'?"
    assert lines[1] == "data.iner.x: data.iner is not in the config; did you mean 'inner'?"
    assert lines[2] == "zzz.y: zzz is not in the config; known: 'data', 'seed'"


def test_override_below_a_plain_value_raises_with_the_value(tmp_path: Path) -> None:
    file = write(tmp_path, "leafy.py", "template = 'auto'\n")
    message = refusal_of(file, "template.name=x")
    assert "template.name: template is 'auto', which has no keys" in message


def test_override_below_a_plain_value_does_not_suggest_its_own_name(tmp_path: Path) -> None:
    message = refusal_of(write(tmp_path, "own.py", "template = 'auto'\n"), "template.name=x")
    assert "did you mean 'template'" not in message


def test_override_of_a_new_last_key_is_set(tmp_path: Path) -> None:
    file = write(tmp_path, "fresh.py", "data = dict(a=1)\n")
    assert load_config(file, {"data.b": 2, "seed": 3}) == {"data": {"a": 1, "b": 2}, "seed": 3}


@pytest.mark.parametrize("slot", ["hooks", "loggers"])
def test_hooks_and_loggers_are_added_under_a_new_name_and_removed_by_none(
    tmp_path: Path, slot: str
) -> None:
    file = write(tmp_path, "slots.py", f"{slot} = dict(old=dict(type='a'), gone=dict(type='b'))\n")
    config = load_config(
        file, parse_overrides([f"{slot}.new.type=c", f"{slot}.new.every=3", f"{slot}.gone=none"])
    )
    assert config[slot] == {"old": {"type": "a"}, "gone": None, "new": {"type": "c", "every": 3}}


def test_override_of_the_strategy_without_one_in_the_config(tmp_path: Path) -> None:
    file = write(tmp_path, "unsaid.py", "model = dict(path='p')\n")
    config = load_config(file, parse_overrides(["strategy.device=cpu"]))
    assert config["strategy"] == {"type": "single_device", "device": "cpu"}
    assert "strategy" not in load_config(file)


def test_override_of_a_key_of_a_strategy_that_is_named_only(tmp_path: Path) -> None:
    file = write(tmp_path, "named.py", "strategy = 'ddp'\n")
    config = load_config(file, parse_overrides(["strategy.timeout_minutes=3"]))
    assert config["strategy"] == {"type": "ddp", "timeout_minutes": 3}


def test_override_of_a_new_name_is_accepted_for_hooks_and_loggers_only(tmp_path: Path) -> None:
    file = write(tmp_path, "closed.py", "model = dict(path='p')\n")
    assert "model.adapter is not in the config" in refusal_of(file, "model.adapter.r=3")
