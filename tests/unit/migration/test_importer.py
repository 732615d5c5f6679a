"""Files of each tool become configs that load and pass the check; whatever a value is, the import ends in one sentence."""

import ast
import json
from collections.abc import Callable, Iterator, Set
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.xtuner_config import HEAD, LORA

from xft.config import build, check, load_config
from xft.config.foreign_keys import FOREIGN_KEYS
from xft.errors import ConfigError
from xft.migration import import_config
from xft.migration.argument_tables import SILENT
from xft.migration.axolotl import import_axolotl
from xft.migration.draft import Draft
from xft.migration.importer import MAX_LINES
from xft.migration.llama_factory import import_llama_factory
from xft.migration.trl import import_trl
from xft.migration.xtuner import SILENT as XTUNER_SILENT
from xft.migration.xtuner import import_xtuner
from xft.run_config.config import RunConfig

AXOLOTL = "base_model: org/model\nadapter: lora\ndatasets:\n  - {path: org/rows, type: alpaca}\nlearning_rate: 1e-4\n"
LLAMA_FACTORY = "model_name_or_path: org/model\nstage: sft\nfinetuning_type: lora\ndataset: mine\nlearning_rate: 1.0e-4\n"
TRL = '{"model_name_or_path": "org/model", "dataset_name": "org/rows", "learning_rate": 1e-4}'
XTUNER = HEAD + LORA


@pytest.mark.parametrize(
    ("name", "text", "tool"),
    [
        ("c.yml", AXOLOTL, "axolotl"),
        ("c.yaml", LLAMA_FACTORY, "LLaMA-Factory"),
        ("c.json", TRL, "TRL"),
        ("c.py", XTUNER, "XTuner"),
    ],
)
def test_imported_config_loads_checks_and_builds(tmp_path: Path, name: str, text: str, tool: str) -> None:
    (tmp_path / name).write_text(text)
    imported = import_config(tmp_path / name)
    assert imported.draft.tool == tool
    assert imported.draft.unexplained == []
    assert imported.text.count("\n") <= MAX_LINES
    target = tmp_path / "mine.py"
    target.write_text(imported.text)
    config = load_config(target)
    assert config == imported.config
    check(config, RunConfig)
    assert build(config, RunConfig).model.path == "org/model"
    assert config["optimizer"]["lr"] == 1e-4
    # None of the tools packs unless it is told to, as the config of XTuner is.
    assert config["data"].get("packing") is (None if tool == "XTuner" else False)


@pytest.mark.parametrize("name", ['a""" + b.yaml', "a\\.yaml", "a'\"\n.yaml", "\udc80.yaml"])
def test_the_name_of_the_file_is_only_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(AXOLOTL)
    imported = import_config(tmp_path / name)
    (tmp_path / "mine.py").write_text(imported.text, encoding="utf-8")
    assert load_config(tmp_path / "mine.py", safe_config=True) == imported.config


def test_a_value_out_of_range_is_one_sentence_with_the_key_of_the_tool(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(AXOLOTL.replace("1e-4", "1e300") + "lora_dropout: 7\n")
    with pytest.raises(ConfigError) as caught:
        import_config(tmp_path / "c.yaml")
    message = str(caught.value)
    assert "learning_rate: got 1e+300" in message
    assert "in xft, optimizer.lr" in message
    assert "lora_dropout: got 7.0" in message
    assert "\n" not in message


def test_only_configs_of_trl_need_a_method(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(AXOLOTL)
    with pytest.raises(ConfigError, match="axolotl") as caught:
        import_config(tmp_path / "c.yaml", "dpo")
    assert caught.value.key == "--method"


def test_values_that_exclude_each_other_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(
        json.dumps(json.loads(TRL) | {"loss_type": "hinge", "label_smoothing": 0.1})
    )
    with pytest.raises(ConfigError, match="label_smoothing"):
        import_config(tmp_path / "c.json")


def test_a_config_of_many_datasets_has_at_most_forty_lines(tmp_path: Path) -> None:
    rows = "".join(f"  - {{path: org/rows{number}, type: alpaca}}\n" for number in range(40))
    (tmp_path / "c.yaml").write_text(f"base_model: org/model\ndatasets:\n{rows}")
    imported = import_config(tmp_path / "c.yaml")
    assert imported.text.count("\n") <= MAX_LINES
    (tmp_path / "mine.py").write_text(imported.text)
    assert load_config(tmp_path / "mine.py") == imported.config


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.txt", "x"),
        ("c.yaml", "- 1"),
        ("c.yaml", "a: [1"),
        ("c.yaml", "a: 1"),
        ("c.json", "{"),
        ("c.py", "x = 1"),
        ("c.yaml", "base_model: org/model\ndatasets: [{path: x, type: alpaca}]\nlearning_rate: -1\n"),
        ("missing.yaml", None),
    ],
)
def test_other_files_are_an_error_that_names_them(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=name):
        import_config(tmp_path / name)


BAD: tuple[Any, ...] = ("word", [1, [2]], {"a": {"b": 1}}, -1, 1.5, 10**400, True, None)
KEYS = {
    *(key for key in FOREIGN_KEYS if "." not in key),
    *("additional_special_tokens", "assistant_only_loss", "center_rewards_coefficient"),
    *("completion_only_loss", "cosine_min_lr_ratio", "dataset_config", "dataset_streaming"),
    *("default_system", "disable_dropout", "dtype", "enable_thinking", "epsilon", "freeze_vision_tower"),
    *("fsdp", "fsdp_config", "group_by_length", "hub_model_id", "image_max_pixels", "interleave_probs"),
    *("lr_scheduler", "lr_scheduler_kwargs", "mask_history", "max_completion_length"),
    *("max_prompt_length", "max_samples", "media_dir", "mix_strategy", "model_config", "model_revision"),
    *("num_generations", "num_iterations", "optimizer", "orpo_alpha", "packing_strategy"),
    *("padding_free", "peft_init_lora_weights", "pissa_iter", "plugins", "pure_bf16", "push_to_hub"),
    *("quantization_type", "reward_funcs", "rope_scaling", "scale_rewards", "seed"),
    *("sequence_parallel_size", "shuffle_merged_datasets", "temperature", "template", "test_split_size"),
    *("tokens", "torch_compile", "train_on_inputs", "trl", "use_galore", "use_swanlab"),
}
"""Keys of all tools."""
TOOLS: dict[str, tuple[Callable[[dict[str, Any]], Draft], dict[str, Any]]] = {
    "axolotl": (import_axolotl, {"base_model": "o/m", "adapter": "lora", "datasets": [{"path": "o/r", "type": "alpaca"}]}),
    "axolotl dpo": (import_axolotl, {"base_model": "o/m", "rl": "dpo", "datasets": [{"path": "o/r"}]}),
    **{
        f"LLaMA-Factory {stage}": (
            partial(import_llama_factory, file=Path("c.yaml")),
            {"model_name_or_path": "o/m", "stage": stage, "finetuning_type": kind, "dataset": "o/r"},
        )
        for stage, kind in (("sft", "lora"), ("dpo", "full"))
    },
    **{
        f"TRL {method}": (
            partial(import_trl, method=method),
            {"model_name_or_path": "o/m", "dataset_name": "o/r", "use_peft": method != "dpo"},
        )
        for method in ("sft", "dpo", "grpo")
    },
}  # fmt: skip
"""Tool to its importer, and a config that it takes."""


def nothing_is_lost(draft: Draft, silent: Set[str]) -> bool:
    """Return whether every key of a file has an entry, but for those that need none."""
    explained = {key for entry in draft.entries for key in entry.keys}
    lost = {key for key in draft.keys if key.rpartition(".")[2] not in silent} - explained
    return draft.unexplained == [] and not lost


def error_of(read: Callable[[], Draft], silent: Set[str]) -> ConfigError | None:
    """Import, and return the error of a config that cannot be imported."""
    try:
        draft = read()
        assert nothing_is_lost(draft, silent)
        check(draft.finish(), RunConfig)
    except ConfigError as error:
        return error
    return None


@pytest.mark.parametrize("tool", TOOLS)
def test_any_value_of_any_key_is_an_entry_or_an_error_of_one_sentence(tool: str) -> None:
    read, config = TOOLS[tool]
    for key in sorted(KEYS):
        for value in BAD:
            error = error_of(partial(read, config | {key: value}), SILENT)
            assert error is None or error.key, (key, value)


def nested_keys(source: str) -> Iterator[str]:
    """Yield each key of the sections of a Python config, as Python: ``optim_wrapper['optimizer']['lr']``."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id
            yield from _keys_of(node.targets[0].id, node.value)


def _keys_of(path: str, node: ast.expr) -> Iterator[str]:
    for keyword in node.keywords if isinstance(node, ast.Call) else ():
        if keyword.arg is not None:
            yield f"{path}[{keyword.arg!r}]"
            yield from _keys_of(f"{path}[{keyword.arg!r}]", keyword.value)


@pytest.mark.parametrize("key", sorted(set(nested_keys(HEAD + LORA))))
def test_any_value_of_a_python_config_is_an_entry_or_an_error_of_one_sentence(key: str) -> None:
    for value in ("'word'", "[1, [2]]", "dict(a=1)", "-1", "1.5", "True", "None", "make()"):
        source = f"{HEAD}{LORA}{key} = {value}\n"
        error = error_of(partial(import_xtuner, source, "c.py"), SILENT | XTUNER_SILENT)
        assert error is None or error.key, value
