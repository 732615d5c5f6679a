from typing import Any

import pytest

from xft.errors import ConfigError
from xft.migration.adapter import import_lora, take_experts, take_targets, without_adapter
from xft.migration.arguments import Arguments
from xft.migration.draft import CHANGED, TAKEN, Draft


def read(**values: Any) -> Draft:
    draft = Draft("tool")
    arguments = Arguments(draft, values)
    import_lora(arguments, 8, None)
    take_targets(arguments, "lora_target")
    take_experts(arguments, "experts")
    return draft


@pytest.mark.parametrize(
    ("values", "path", "value"),
    [
        ({}, "adapter", {"type": "lora", "r": 8, "lora_alpha": 16, "lora_dropout": 0.0}),
        ({"lora_rank": "4"}, "adapter.lora_alpha", 8),
        ({"lora_target": "all"}, "adapter.target_modules", "all-linear"),
        ({"lora_target": "q_proj,v_proj"}, "adapter.target_modules", ["q_proj", "v_proj"]),
        ({"lora_target": ".*q_proj"}, "adapter.target_modules", ".*q_proj"),
        ({"experts": ["x"]}, "adapter.target_modules", "all"),
        ({"additional_target": "lm_head"}, "adapter.modules_to_save", ["lm_head"]),
        ({"pissa_init": True}, "adapter.init_lora_weights", "pissa_niter_16"),
        ({"pissa_init": True, "pissa_iter": -1}, "adapter.init_lora_weights", "pissa"),
        ({"peft_init_lora_weights": "olora", "lora_dropout": 0.1}, "adapter.lora_dropout", 0.0),
    ],
)
def test_arguments_have_their_place(values: dict[str, Any], path: str, value: object) -> None:
    assert read(**values).get(path) == value


def test_a_default_is_named_as_one() -> None:
    texts = {entry.key: entry.text for entry in read(lora_alpha=3).entries}
    assert texts["lora_r"] == "adapter.r = 8 (the default of tool)"
    assert texts["lora_alpha"] == "adapter.lora_alpha = 3"


def test_other_initial_weights_are_different() -> None:
    kinds = {entry.key: entry.kind for entry in read(peft_init_lora_weights="loftq").entries}
    assert kinds["peft_init_lora_weights"] == CHANGED


def test_without_an_adapter_its_keys_have_no_effect() -> None:
    draft = Draft("tool")
    without_adapter(Arguments(draft, {"lora_r": 8, "use_dora": True, "seed": 1}))
    assert [(entry.key, entry.kind) for entry in draft.entries] == [("lora_r", TAKEN), ("use_dora", TAKEN)]
    assert draft.values == {"adapter": None}


@pytest.mark.parametrize(("key", "value"), [("lora_r", 0), ("lora_alpha", "x"), ("lora_target", {"a": 1})])
def test_a_wrong_value_is_an_error(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**{key: value})
    assert caught.value.key == key
