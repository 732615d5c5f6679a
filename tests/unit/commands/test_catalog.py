"""Listings of configs and components, and copies of shipped configs."""

import ast
import json
import re
from pathlib import Path

import pytest

from xft.commands.catalog import copy_config, format_listing, shipped_configs
from xft.config import load_config
from xft.errors import ConfigError
from xft.registry import list_registered, resolve
from xft.utils.presets import preset_models

ROOT = Path(__file__).resolve().parents[3]


def test_shipped_configs_are_the_files_of_the_config_folder() -> None:
    configs = shipped_configs()
    assert list(configs) == sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    assert configs["smollm2_lora"] == ROOT / "configs" / "smollm2_lora.py"


@pytest.mark.parametrize("what", ["config", "configs"])
def test_format_listing_configs_has_the_docstring_of_each(what: str) -> None:
    lines = format_listing(what)
    assert [line.split()[0] for line in lines] == [*shipped_configs(), *preset_models()]
    line = next(line for line in lines if line.startswith("smollm2_lora "))
    assert line.endswith("SmolLM2-135M, LoRA on a hundred hand-made rows: minutes on a laptop CPU.")


def test_format_listing_aligns_the_descriptions() -> None:
    starts = [re.match(r"\S+\s+", line) for line in format_listing("configs")]
    assert len({start.end() for start in starts if start is not None}) == 1


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
def test_format_listing_accepts_singular_and_plural_kinds(what: str, name: str) -> None:
    assert name in [line.split()[0] for line in format_listing(what)]


def test_format_listing_describes_each_component() -> None:
    assert all(len(line.split()) > 3 for line in format_listing("hooks"))


def test_format_listing_formats_have_a_row_that_they_accept() -> None:
    lines = format_listing("formats")
    heads = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    assert [lines[head].split()[0] for head in heads] == list_registered("format")
    for begin, end in zip(heads, [*heads[1:], len(lines)], strict=True):
        name, arguments = lines[begin].split()[0], {}
        if len(lines[begin:end]) == 3:
            call = ast.parse(lines[begin + 1].strip()).body[0]
            assert isinstance(call, ast.Assign)
            assert isinstance(call.value, ast.Call)
            arguments = {str(item.arg): ast.literal_eval(item.value) for item in call.value.keywords}
            assert arguments.pop("type") == name
        row = json.loads(lines[end - 1])
        assert resolve("format", name)(row, **arguments)


def test_format_listing_prints_arguments_and_row_of_an_example() -> None:
    lines = format_listing("formats")
    at = next(number for number, line in enumerate(lines) if line.startswith("alpaca_zh "))
    assert lines[at].endswith("Alpaca's columns, with _zh")
    assert lines[at + 1] == '    {"instruction_zh": "相加。", "input_zh": "1 2", "output_zh": "3"}'


def test_format_listing_of_other_kinds_has_no_examples() -> None:
    assert not any(line.startswith(" ") for line in format_listing("templates"))


def test_format_listing_unknown_kind_raises_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        format_listing("templats")
    assert error.value.got == "templats"
    assert "'templates'" in error.value.fix


@pytest.mark.parametrize("name", ["smollm2_qlora", "smollm2_qlora.py", "configs/smollm2_qlora.py"])
def test_copy_config_writes_one_file_that_loads_to_the_same_values(name: str, tmp_path: Path) -> None:
    target = copy_config(name, str(tmp_path / "new" / "folder"))
    assert target == tmp_path / "new" / "folder" / "smollm2_qlora.py"
    text = target.read_text(encoding="utf-8")
    assert "import" not in text
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring == "SmolLM2-135M in NF4, QLoRA on a hundred hand-made rows: on a CPU too."
    assert load_config(target) == load_config(ROOT / "configs" / "smollm2_qlora.py")


def test_copy_config_values_can_be_overridden(tmp_path: Path) -> None:
    target = copy_config("smollm2_lora", str(tmp_path))
    assert load_config(target, {"optimizer.lr": 1.0})["optimizer"]["lr"] == 1.0


def test_copy_config_to_a_file_uses_its_name(tmp_path: Path) -> None:
    target = copy_config("smollm2_lora", str(tmp_path / "mine.py"))
    assert target == tmp_path / "mine.py"
    assert target.is_file()


def test_copy_config_existing_file_raises_and_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "smollm2_lora.py"
    file.write_text("mine = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError):
        copy_config("smollm2_lora", str(tmp_path))
    assert file.read_text(encoding="utf-8") == "mine = 1\n"


def test_copy_config_unknown_name_raises_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        copy_config("smolm2_lora", str(tmp_path))
    assert error.value.got == "smolm2_lora"
    assert "'smollm2_lora'" in error.value.fix
    assert list(tmp_path.iterdir()) == []


def test_copy_config_unwritable_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError):
        copy_config("smollm2_lora", str(tmp_path / "file" / "below"))


def test_copy_config_of_a_model_with_a_method_has_all_values_in_one_file(tmp_path: Path) -> None:
    target = copy_config("qwen3_8b_orpo", str(tmp_path / "mine.py"))
    text = target.read_text()
    assert "read_base" not in text
    assert text.startswith('"""Qwen3-8B. ')
    assert load_config(target) == load_config("qwen3_8b_orpo")


def test_format_listing_methods_describes_each() -> None:
    assert [line.split()[0] for line in format_listing("methods")] == [
        "dpo",
        "full",
        "grpo",
        "kto",
        "lora",
        "orpo",
        "pretrain",
        "qlora",
    ]
