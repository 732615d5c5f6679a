"""What there is: listing and copying."""

import ast
import json
import re
from pathlib import Path

import pytest

from xft.commands.catalog import copy_config, format_listing, shipped_configs
from xft.config import load_config
from xft.errors import ConfigError
from xft.registry import list_registered, resolve

ROOT = Path(__file__).resolve().parents[3]


def test_the_shipped_configs_are_the_leaves() -> None:
    found = shipped_configs()
    assert list(found) == sorted(each.stem for each in (ROOT / "configs").glob("*.py"))
    assert found["smollm2_lora"] == ROOT / "configs" / "smollm2_lora.py"


@pytest.mark.parametrize("what", ["config", "configs"])
def test_configs_are_listed_with_what_they_are(what: str) -> None:
    lines = format_listing(what)
    assert [each.split()[0] for each in lines] == list(shipped_configs())
    line = next(each for each in lines if each.startswith("smollm2_lora "))
    assert line.endswith("SmolLM2-135M, LoRA on a hundred hand-made rows: minutes on a laptop CPU.")


def test_the_column_of_descriptions_is_straight() -> None:
    starts = [re.match(r"\S+\s+", each) for each in format_listing("configs")]
    assert len({each.end() for each in starts if each is not None}) == 1


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("format", "alpaca"),
        ("formats", "alpaca"),
        ("templates", "chatml"),
        ("hooks", "early_stopping"),
        ("loggers", "jsonl"),
        ("models", "causal_lm"),
        ("models", "reward_model"),
        ("adapters", "lora"),
        ("quantizations", "nf4"),
        ("data", "instruction"),
        ("objectives", "sft"),
        ("optimizers", "adamw"),
        ("lr_schedulers", "cosine"),
        ("scorers", "exact"),
        ("strategy", "single_device"),
        ("strategies", "single_device"),
    ],
)
def test_components_are_listed_by_the_kind_in_english(what: str, name: str) -> None:
    assert name in [each.split()[0] for each in format_listing(what)]


def test_each_component_has_a_description() -> None:
    assert all(len(each.split()) > 3 for each in format_listing("hooks"))


def test_each_format_is_listed_with_a_row_that_it_takes() -> None:
    lines = format_listing("formats")
    heads = [number for number, each in enumerate(lines) if not each.startswith(" ")]
    assert [lines[each].split()[0] for each in heads] == list_registered("format")
    for begin, end in zip(heads, [*heads[1:], len(lines)], strict=True):
        name, arguments = lines[begin].split()[0], {}
        if len(lines[begin:end]) == 3:
            call = ast.parse(lines[begin + 1].strip()).body[0]
            assert isinstance(call, ast.Assign)
            assert isinstance(call.value, ast.Call)
            arguments = {str(each.arg): ast.literal_eval(each.value) for each in call.value.keywords}
            assert arguments.pop("type") == name
        row = json.loads(lines[end - 1])
        assert resolve("format", name)(row, **arguments)


def test_an_example_is_listed_as_it_is_written_in_a_file() -> None:
    lines = format_listing("formats")
    at = next(number for number, each in enumerate(lines) if each.startswith("alpaca_zh "))
    assert lines[at].endswith("Alpaca's columns, with _zh")
    assert lines[at + 1] == '    {"instruction_zh": "相加。", "input_zh": "1 2", "output_zh": "3"}'


def test_only_formats_have_examples() -> None:
    assert not any(each.startswith(" ") for each in format_listing("templates"))


def test_an_unknown_kind_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown kind 'templats'; did you mean 'templates'"):
        format_listing("templats")


@pytest.mark.parametrize("name", ["smollm2_qlora", "smollm2_qlora.py", "configs/smollm2_qlora.py"])
def test_a_copy_is_one_file_that_loads_to_the_same_config(name: str, tmp_path: Path) -> None:
    target = copy_config(name, str(tmp_path / "new" / "folder"))
    assert target == tmp_path / "new" / "folder" / "smollm2_qlora.py"
    text = target.read_text(encoding="utf-8")
    assert "import" not in text
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring == "SmolLM2-135M in NF4, QLoRA on a hundred hand-made rows: on a CPU too."
    assert load_config(target) == load_config(ROOT / "configs" / "smollm2_qlora.py")


def test_values_of_a_copy_can_be_overridden(tmp_path: Path) -> None:
    target = copy_config("smollm2_lora", str(tmp_path))
    assert load_config(target, {"optimizer.lr": 1.0})["optimizer"]["lr"] == 1.0


def test_a_copy_takes_the_name_that_is_given(tmp_path: Path) -> None:
    target = copy_config("smollm2_lora", str(tmp_path / "mine.py"))
    assert target == tmp_path / "mine.py"
    assert target.is_file()


def test_a_copy_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "smollm2_lora.py"
    file.write_text("mine = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="exists"):
        copy_config("smollm2_lora", str(tmp_path))
    assert file.read_text(encoding="utf-8") == "mine = 1\n"


def test_an_unknown_config_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown config 'smolm2_lora'; did you mean .*'smollm2_lora'"):
        copy_config("smolm2_lora", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot write"):
        copy_config("smollm2_lora", str(tmp_path / "file" / "below"))
