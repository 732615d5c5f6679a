"""The registries: what a config may name under ``type=``."""

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from xft.errors import ConfigError
from xft.registry import FORMATS, PARTIAL_KEYS, REGISTRY_BY_KEY, list_registered, register, resolve


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module of a user's own."""
    text = "SIZE = 3\n\ndef rows(row):\n    return row\n\nclass Hook:\n    pass\n"
    (tmp_path / "own_registry.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_registry", raising=False)
    return "own_registry"


@pytest.mark.parametrize(
    ("slot", "shipped"),
    [
        ("model", ["causal_lm"]),
        ("adapter", ["lora"]),
        ("quantization", ["int8", "nf4"]),
        ("template", ["auto", "chatml"]),
        ("data", ["instruction", "mixture", "preference", "text", "unpaired_preference"]),
        ("datasets", ["instruction", "mixture", "preference", "text", "unpaired_preference"]),
        ("format", ["alpaca", "openai", "sharegpt", "text", "xtuner"]),
        ("objective", ["pretrain", "sft"]),
        ("optimizer", ["adamw", "paged_adamw_8bit"]),
        ("lr_scheduler", ["constant", "cosine", "linear"]),
        ("strategy", ["ddp", "deepspeed", "fsdp2", "single_device"]),
        ("hooks", ["checkpoint", "early_stopping", "progress", "sample_generation", "validation"]),
        ("loggers", ["jsonl", "tensorboard", "wandb"]),
        ("scorer", ["contains", "exact", "f1", "structured"]),
        ("rewards", ["contains", "number", "reward_model", "structured"]),
        ("engine", ["local", "openai_server"]),
    ],
)
def test_each_slot_knows_its_components(slot: str, shipped: list[str]) -> None:
    known = list_registered(slot)
    assert set(shipped) <= set(known)
    assert known == sorted(known)
    assert all(callable(resolve(slot, each)) for each in known)


def test_the_slots_are_all_in_the_table_above() -> None:
    assert set(REGISTRY_BY_KEY) == {
        "model",
        "adapter",
        "quantization",
        "template",
        "data",
        "datasets",
        "format",
        "objective",
        "optimizer",
        "lr_scheduler",
        "strategy",
        "hooks",
        "loggers",
        "scorer",
        "rewards",
        "engine",
        "environment",
    }
    assert set(REGISTRY_BY_KEY) >= PARTIAL_KEYS


def test_a_registry_belongs_to_one_slot() -> None:
    # A set of a mixture is a data set like any other.
    assert (
        max(Counter(id(each) for slot, each in REGISTRY_BY_KEY.items() if slot != "datasets").values()) == 1
    )


def test_every_component_says_in_its_docstring_what_it_is() -> None:
    silent = [
        f"{slot}.{name}"
        for slot in REGISTRY_BY_KEY
        for name in list_registered(slot)
        if not resolve(slot, name).__doc__
    ]
    assert silent == []


def test_a_registered_function_is_found_under_each_of_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FORMATS, "_module_dict", dict(FORMATS.module_dict))

    @register("format", "own_one", "own_two")
    def own(row: dict[str, str]) -> str:
        return row["a"]

    assert own({"a": "b"}) == "b"
    assert resolve("format", "own_one") is own
    assert resolve("format", "own_two") is own
    assert {"own_one", "own_two"} <= set(list_registered("format"))


def test_the_usual_mmengine_decorator_registers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FORMATS, "_module_dict", dict(FORMATS.module_dict))

    @FORMATS.register_module()
    def own_usual(row: dict[str, str]) -> str:
        return row["a"]

    assert resolve("format", "own_usual") is own_usual


def test_registering_a_name_twice_is_refused() -> None:
    list_registered("format")
    with pytest.raises(KeyError, match="alpaca"):
        register("format", "alpaca")(lambda row: row)


def test_a_name_of_another_slot_is_not_found() -> None:
    with pytest.raises(ConfigError, match="unknown optimizer 'lora'"):
        resolve("optimizer", "lora")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("hooks", "early_stoping")
    assert str(caught.value) == "hooks: unknown hook 'early_stoping'; did you mean 'early_stopping'?"


def test_a_class_or_function_is_found_by_its_dotted_path(own: str) -> None:
    function, hook = resolve("format", f"{own}.rows"), resolve("hooks", f"{own}.Hook")
    assert function({"a": 1}) == {"a": 1}
    assert isinstance(hook, type)
    assert hook.__module__ == own


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("own_registry.nothing", "nothing"),
        ("own_registry.SIZE", "is a int; expected a class or function"),
        ("no_such_package.thing", "No module named 'no_such_package'"),
        ("os.path", "is a module; expected a class or function"),
        ("own_registry.", "own_registry."),
        (".alpaca", ".alpaca"),
        ("./formats.py", "./formats.py"),
    ],
)
def test_a_path_that_leads_to_no_class_or_function_is_a_config_error(
    own: str, path: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("format", path)
    message = str(caught.value)
    assert message.startswith("format: ")
    assert repr(path) in message
    assert reason in message


def test_a_failed_import_lists_the_registered_names() -> None:
    with pytest.raises(ConfigError, match=r"expected a registered name .*alpaca.*xtuner"):
        resolve("format", "no_such_package.thing")


def test_module_that_a_program_has_made_itself_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("made_by_a_program")
    module.rows = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert resolve("format", "made_by_a_program.rows") is dict
