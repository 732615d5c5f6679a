"""Values that go with a method: those of the shipped methods."""

import pytest

from xft.config import load_config
from xft.run_config.recipe.method import (
    REFERENCE_SIZE,
    choose_epochs,
    choose_learning_rate,
    choose_method,
    default_method,
    read_method,
)
from xft.utils.presets import preset_methods

KINDS = ("instruction", "preference", "unpaired_preference", "text", "prompt")


@pytest.mark.parametrize("name", preset_methods())
def test_a_method_has_the_values_of_the_shipped_model_with_the_method(name: str) -> None:
    config, method = load_config(f"qwen3_8b_{name}"), read_method(name)
    assert method.adapter == config["adapter"]
    assert method.quantization == config.get("quantization")
    assert method.kind == config["data"]["type"]
    assert method.sections == {
        key: config[key] for key in ("objective", "rewards", "rollout") if key in config
    }
    assert choose_learning_rate(method, REFERENCE_SIZE) == config["optimizer"]["lr"]
    training = config["training"]
    steps = training["micro_batch_size"] * training["gradient_accumulation_steps"]
    assert method.rows_per_step == steps


@pytest.mark.parametrize(
    ("method", "size", "rate"),
    [
        ("qlora", 0.1e9, 5e-4),
        ("qlora", 7e9, 2e-4),
        ("lora", None, 2e-4),
        ("lora", 32e9, 1e-4),
        ("lora", 600e9, 5e-5),
        ("full", 7e9, 1e-5),
        ("dpo", 7e9, 5e-6),
        ("kto", 7e9, 5e-6),
        ("orpo", 7e9, 5e-5),
        ("grpo", 7e9, 2e-5),
        ("pretrain", 7e9, 1e-4),
    ],
)
def test_learning_rate_falls_with_the_size_and_depends_on_the_method(
    method: str, size: float | None, rate: float
) -> None:
    assert choose_learning_rate(read_method(method), size) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("method", "rows", "epochs"),
    [("lora", 100, 5), ("lora", 201, 3), ("lora", 20_000, 2), ("lora", 20_001, 1), ("lora", None, 1), ("pretrain", 5, 1)],
)  # fmt: skip
def test_few_rows_have_more_epochs(method: str, rows: int | None, epochs: int) -> None:
    assert choose_epochs(read_method(method), rows) == epochs


@pytest.mark.parametrize("on_gpu", [False, True])
def test_default_method_trains_on_the_kind_of_rows(on_gpu: bool) -> None:
    for kind in KINDS:
        assert choose_method(None, kind, on_gpu).kind == kind
    assert default_method("instruction", on_gpu) == ("qlora" if on_gpu else "lora")


@pytest.mark.parametrize("name", preset_methods())
def test_on_a_cpu_only_qlora_has_4_bit_weights(name: str) -> None:
    method = choose_method(name, "instruction", on_gpu=False)
    assert (method.weights == "qlora") == (name == "qlora")
    if read_method(name).weights == "qlora" != method.weights:
        assert method.adapter == read_method("lora").adapter
    assert choose_method(name, "instruction", on_gpu=True) == read_method(name)
