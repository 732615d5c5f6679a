"""Loading config files."""

from pathlib import Path
from textwrap import dedent

import pytest
from mmengine.config import config as mmengine_config

from xft.config import load_config
from xft.errors import ConfigError

BASE = "from mmengine.config import read_base\n\nwith read_base():\n    from .{} import *\n\n"


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(dedent(text), encoding="utf-8")
    return file


def message_of(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    return str(caught.value)


def test_load_config_returns_the_assignments_as_plain_data(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "plain.py",
        """
        rate = 2 * 3
        section = dict(name='a', flags=[True, None], pair=(1, 2.5), inner=dict(x=-1))
        """,
    )
    assert load_config(file) == {
        "rate": 6,
        "section": {"name": "a", "flags": [True, None], "pair": (1, 2.5), "inner": {"x": -1}},
    }


def test_load_config_returns_builtin_types_only(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "types.py", "a = dict(b=[dict(c=(1, 2))])\n"))
    assert type(config) is dict
    assert type(config["a"]) is dict
    assert type(config["a"]["b"]) is list
    assert type(config["a"]["b"][0]) is dict
    assert type(config["a"]["b"][0]["c"]) is tuple


def test_names_with_an_underscore_are_helpers_and_left_out(tmp_path: Path) -> None:
    file = write(tmp_path, "helper.py", "_width = 4\n_f = max\nsize = _width * 2\n")
    assert load_config(file) == {"size": 8}


def test_bases_of_bases_are_merged_and_the_leaf_wins(tmp_path: Path) -> None:
    write(tmp_path, "ground.py", "a = 1\nb = 2\nd = dict(x=1, y=2)\n")
    write(tmp_path, "middle.py", BASE.format("ground") + "b = 20\nc = a + b\n")
    leaf = write(tmp_path, "top.py", BASE.format("middle") + "c = c + 100\nd.update(y=7)\n")
    assert load_config(leaf) == {"a": 1, "b": 20, "c": 121, "d": {"x": 1, "y": 7}}


def test_loading_a_leaf_twice_gives_the_same_config(tmp_path: Path) -> None:
    write(tmp_path, "shared.py", "d = dict(n=1)\n")
    leaf = write(tmp_path, "again.py", BASE.format("shared") + "d['n'] += 1\n")
    assert load_config(leaf) == load_config(leaf) == {"d": {"n": 2}}


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("from torch.optim import AdamW", "AdamW"),
        ("from torch.optim import AdamW as Own", "Own"),
        ("import torch", "torch.optim.AdamW"),
        ("import torch.optim as optim", "optim.AdamW"),
        ("from torch import optim", "optim.AdamW"),
    ],
)
def test_load_config_imported_class_is_its_dotted_name(tmp_path: Path, statement: str, name: str) -> None:
    file = write(tmp_path, "imported.py", f"{statement}\n\noptimizer = dict(type={name}, lr=1)\n")
    assert load_config(file) == {"optimizer": {"type": "torch.optim.AdamW", "lr": 1}}


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("def f():\n    pass\n\nx = dict(a=f)\n", "x.a"),
        ("x = dict(a=[1, lambda: 1])\n", "x.a.1"),
        ("def f():\n    pass\n", "f"),
        ("x = print\n", "x"),
        ("x = dict(kind=dict)\n", "x.kind"),
        ("x = {1, 2}\n", "x"),
        ("x = dict(b=b'1')\n", "x.b"),
    ],
)
def test_functions_and_other_objects_are_refused_by_path(tmp_path: Path, source: str, path: str) -> None:
    message = message_of(write(tmp_path, "object.py", source))
    assert f"{path}: got a" in message
    assert "package.module.name" in message


@pytest.mark.parametrize(
    "source",
    [
        "import json\n\nx = dict(a=json)\n",
        "import numpy as np\n\nx = dict(a=np)\n",
    ],
)
def test_modules_are_refused_by_path(tmp_path: Path, source: str) -> None:
    assert "x.a" in message_of(write(tmp_path, "module.py", source))


def test_load_config_reports_all_values_that_are_not_plain(tmp_path: Path) -> None:
    message = message_of(write(tmp_path, "many.py", "a = {1}\nb = dict(c=b'')\nd = [float('nan')]\n"))
    assert all(f"{path}: got" in message for path in ("a", "b.c", "d.0"))


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "number.py", f"lr = float('{number}')\n"))
    assert (caught.value.key, repr(caught.value.got)) == ("lr", number)
    assert [cause.expected for cause in caught.value.causes] == ["a finite number"]


def test_load_config_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    file = write(tmp_path, "broken.py", "a = 1\nb = 2\nc = = 3\n")
    assert f"{file}:3: does not parse" in message_of(file)


def test_load_config_syntax_error_in_a_base_names_the_base_and_its_line(tmp_path: Path) -> None:
    write(tmp_path, "broken_base.py", "a = 1\nb = = 2\n")
    message = message_of(write(tmp_path, "leaf.py", BASE.format("broken_base")))
    assert "broken_base.py:2" in message


def test_load_config_error_names_line_and_class(tmp_path: Path) -> None:
    file = write(tmp_path, "divides.py", "a = 1\n\nb = a / 0\n")
    assert f"{file}:3: ZeroDivisionError: division by zero" in message_of(file)


def test_load_config_error_in_a_base_names_the_base_and_its_line(tmp_path: Path) -> None:
    write(tmp_path, "bad_base.py", "a = dict()\n\nb = a['missing']\n")
    message = message_of(write(tmp_path, "leaf.py", BASE.format("bad_base")))
    assert "bad_base.py:3: KeyError: 'missing'" in message


def test_calling_an_import_is_explained_and_not_an_empty_message(tmp_path: Path) -> None:
    file = write(tmp_path, "calls.py", "from torch.nn import Linear\n\nx = Linear(3, 3)\n")
    message = message_of(file)
    assert f"{file}:3" in message
    assert "dict(type=" in message


def test_calling_an_import_in_a_base_names_the_base(tmp_path: Path) -> None:
    write(tmp_path, "calling.py", "from torch.nn import Linear\nx = Linear(3, 3)\n")
    assert "calling.py:2" in message_of(write(tmp_path, "leaf.py", BASE.format("calling")))


def test_load_config_missing_base_is_named(tmp_path: Path) -> None:
    message = message_of(write(tmp_path, "orphan.py", BASE.format("nobody")))
    assert "orphan.py" in message
    assert "nobody" in message


def test_load_config_missing_or_other_file_raises(tmp_path: Path) -> None:
    assert "no file" in message_of(tmp_path / "nothing.py")
    assert "is a folder" in message_of(tmp_path)
    assert "expected a Python config file" in message_of(write(tmp_path, "config.yaml", "a: 1\n"))


@pytest.mark.parametrize("content", [b"x = '\xff'\n", b"x = 1\x00\n"])
def test_load_config_file_that_is_not_text_raises(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bytes.py"
    file.write_bytes(content)
    assert f"{file}: does not parse" in message_of(file)


def test_load_config_restores_mmengine_after_an_error(tmp_path: Path) -> None:
    before = mmengine_config.ImportTransformer
    message_of(write(tmp_path, "fails.py", "a = 1 / 0\n"))
    assert mmengine_config.ImportTransformer is before


def test_load_config_base_variable_raises(tmp_path: Path) -> None:
    write(tmp_path, "old_base.py", "n = 8\n")
    file = write(tmp_path, "old.py", "m = 1\n_base_ = ['./old_base.py']\n")
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert "old.py:2: " in str(error.value)
    assert "read_base" in str(error.value)


@pytest.mark.parametrize("safe_config", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "seed = " + "+".join(["1"] * 100_000),
        "seed = " + "-" * 20_000 + "1",
        "seed = a" + ".b" * 20_000,
        "seed = " + "[" * 10_000 + "]" * 10_000,
    ],
    ids=["sum", "minus", "attribute", "list"],
)
def test_load_config_deep_nesting_raises_in_one_line(tmp_path: Path, text: str, safe_config: bool) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, "deep.py", text), safe_config=safe_config)
    assert error.value.key == "config"
    assert len(str(error.value).splitlines()) == 1


def test_load_config_deeply_nested_values_raise_in_one_line(tmp_path: Path) -> None:
    file = write(tmp_path, "deep.py", "_x = []\n" + "_x = [_x]\n" * 3000 + "seed = _x\n")
    assert len(message_of(file).splitlines()) == 1


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c")])
def test_load_config_cycle_of_bases_raises_with_the_cycle(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, base in zip(names, (*names[1:], names[0]), strict=True):
        write(tmp_path, f"{name}.py", BASE.format(base))
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "a.py")
    assert error.value.expected == "bases without a cycle"
    assert " → ".join(f"{name}.py" for name in (*names, names[0])) in str(error.value)


def test_load_config_base_of_two_bases_is_loaded(tmp_path: Path) -> None:
    write(tmp_path, "shared.py", "_number = 1\n")
    for name in ("left", "right"):
        write(tmp_path, f"{name}.py", BASE.format("shared") + f"{name} = 2\n")
    file = write(tmp_path, "top.py", BASE.format("left").rstrip() + "\n    from .right import *\n")
    assert load_config(file) == {"left": 2, "right": 2}


@pytest.mark.parametrize(
    "text",
    ["import os\nseed = os.environ['X']\n", "from os import environ\nwork_dir = environ['X'] + '/a'\n"],
)
def test_load_config_value_of_the_environment_raises_with_the_line(tmp_path: Path, text: str) -> None:
    message = message_of(write(tmp_path, "environment.py", text))
    assert "environment.py:2: computes with an imported object" in message
    assert "--cfg-options KEY=VALUE" in message


def test_load_config_byte_order_mark_raises(tmp_path: Path) -> None:
    (tmp_path / "bom.py").write_text("seed = 1\n", encoding="utf-8-sig")
    assert "byte-order mark" in message_of(tmp_path / "bom.py")


@pytest.mark.parametrize("safe_config", [False, True])
def test_a_path_next_to_the_config_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safe_config: bool
) -> None:
    (tmp_path / "configs").mkdir()
    write(tmp_path, "configs/rows.jsonl", "")
    text = "data = dict(datasets=dict(a=dict(path=['rows.jsonl#5', 'absent.jsonl'])))\n"
    file = write(tmp_path, "configs/a.py", text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        load_config(Path("configs/a.py"), safe_config=safe_config)
    assert (error.value.key, error.value.got) == ("data.datasets.a.path.0", "rows.jsonl#5")
    assert "Use configs/rows.jsonl" in str(error.value)
    monkeypatch.chdir(tmp_path / "configs")
    assert "data" in load_config(file, safe_config=safe_config)
