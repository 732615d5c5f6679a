"""Python configs by their syntax tree: what is evaluated, and that nothing is executed."""

from pathlib import Path
from typing import Any

import pytest

from xft.errors import ConfigError
from xft.migration.python_values import Name, evaluate_config


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("x = 2 * 3 + 1", 7),
        ("x = -1e-3", -1e-3),
        ("n = 4\nx = n\nx *= 2", 8),
        ("x = dict(a=1, **dict(b=[2, 'c']))", {"a": 1, "b": [2, "c"]}),
        ("x = {'a': (1, 2)}", {"a": [1, 2]}),
        ("x = 'data/' + 'rows.json'", "data/rows.json"),
        ("n = 2\nx = 'b' if n > 1 else 'a'", "b"),
        ("x = []\nif False:\n    x += [1]\nelse:\n    x += [2]", [2]),
        ("n = 3\nx = f'n{n}'", "n3"),
        ("x = dict(a=1)\nx['b'] = 2", {"a": 1, "b": 2}),
        ("from a.b import C\nx = C.d", Name("a.b.C.d")),
        ("import torch\nx = torch.float16", Name("torch.float16")),
        ("x = open('/etc/passwd').read()", Name("open('/etc/passwd').read()")),
        ("x = 'a' * 10**12", Name("'a' * 10 ** 12")),
        ("x = 1 / 0", Name("1 / 0")),
        ("x = dict(a=dict(b=1))\nx['a']['b'] = 2", {"a": {"b": 2}}),
        ("y = dict(a=1)\nx = y['a']", 1),
        ("y = dict(a=1)\nx = y['b']", Name("y['b']")),
        ("x = range(10**12)", Name("range(10 ** 12)")),
        ("x = int(2048 - (336 / 14) ** 2)", 1472),
        ("x = 10 ** 10 ** 10", Name("10 ** 10 ** 10")),
        ("x = (-8) ** 0.5", Name("(-8) ** 0.5")),
        ("x = int(1e300)", Name("int(1e+300)")),
        ("x = int(n)", Name("int(n)")),
        ("x = 3\n" + "x = x * x\n" * 40, Name("x * x")),
    ],
)
def test_expressions_are_evaluated_or_stay_names(source: str, value: Any) -> None:
    assert evaluate_config(source, "c.py").values["x"] == value


def test_nothing_is_executed(tmp_path: Path) -> None:
    target = tmp_path / "made"
    evaluate_config(
        f"import pathlib\npathlib.Path({str(target)!r}).touch()\nx = pathlib.Path({str(target)!r}).touch()",
        "c",
    )
    assert not target.exists()


@pytest.mark.parametrize("source", ["x = (", "x = 1\0", "x = " + "-" * 5000 + "1"])
def test_a_file_that_does_not_parse_is_an_error_with_its_name(source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluate_config(source, "c.py")
    assert caught.value.got == "c.py"


@pytest.mark.parametrize(
    "source",
    [
        "s = 'aaaaaaaaaaaaaaaa'\n" + "s += s\n" * 40,
        "s = [1, 2, 3]\n" + "s = s + s\n" * 40,
        "s = [1]\n" + "s = [s, s]\n" * 40,
        "s = dict(a=1)\n" + "s = dict(a=s, b=s)\n" * 40,
        "s = 'aaaaaaaa'\n" + "s = f'{s}{s}'\n" * 40,
        "s = dict(a=1)\ns['a'] = s\n",
        "s = " + " + ".join(f"f({'a' * 50_000})" for _ in range(15)),
    ],
)
def test_values_that_grow_are_an_error(source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluate_config(source, "c.py")
    assert caught.value.key == "FILE"
    assert "items and characters" in str(caught.value)


def test_names_that_another_one_reads_are_used() -> None:
    config = evaluate_config("a = 1\nb = a + 1\nc = 3\nc *= 2\nif b > 1:\n    d = dict(e=b)", "c.py")
    assert config.used == {"a", "b"}
    assert config.values["d"] == {"e": 2}
