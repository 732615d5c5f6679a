"""GRPO on a tiny model: what the loss counts, which completions are left out, the reference."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.tiny import tiny_config
from helpers.tolerances import tolerance
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from xft.data import Collator
from xft.errors import ConfigError
from xft.models.scoring import target_log_probs
from xft.objectives import GRPO
from xft.types import IGNORE_INDEX, Batch, PolicyTargets, Sample

LENGTHS = (3, 5)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    base: Any = AutoModelForCausalLM.from_config(tiny_config("llama", 64))
    adapted: Any = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    return nn.Module.eval(adapted)


def batch_of(advantages: list[float], gap: float = 0.0, model: nn.Module | None = None) -> Batch:
    generator = torch.Generator().manual_seed(1)
    samples = []
    for length in LENGTHS:
        ids = torch.randint(0, 64, (4 + length,), generator=generator).numpy().astype("int32")
        labels = ids.copy()
        labels[:4] = IGNORE_INDEX
        samples.append(Sample(ids, labels))
    batch = Collator(layout="padded", pad_token_id=0).collate(samples, range(len(samples)))
    log_probs = torch.zeros(sum(LENGTHS)) if model is None else target_log_probs(model, batch).detach()
    return replace(
        batch, policy=PolicyTargets(torch.tensor(advantages), log_probs - gap, max_new_tokens=10)
    )


@pytest.mark.parametrize(
    ("loss_type", "targets"), [("dapo", 8), ("cispo", 8), ("grpo", 2), ("gspo", 2), ("dr_grpo", 2)]
)
def test_targets_are_what_the_loss_type_normalizes_by(
    model: nn.Module, loss_type: Any, targets: int
) -> None:
    batch = batch_of([1.0, -1.0], model=model)
    objective = GRPO(loss_type=loss_type)
    assert objective.count_targets(batch) == objective(model, batch).num_targets == targets


def test_loss_of_the_first_update_is_minus_the_advantages(model: nn.Module) -> None:
    batch = batch_of([0.5, -2.0], model=model)
    output = GRPO()(model, batch)
    assert float(output.loss_sum) == pytest.approx(-(3 * 0.5 - 5 * 2.0), rel=1e-5)
    assert output.metrics["sampling_gap"] < 8 * tolerance(torch.float32, 64, scale=10)
    assert float(output.metrics["clip_ratio"]) == 0
    assert output.metric_denominators["clip_ratio"] == 8


def test_importance_weights_are_the_ratio_to_the_sampler_up_to_the_cap(model: nn.Module) -> None:
    batch = batch_of([1.0, 1.0], gap=0.5, model=model)
    assert float(GRPO()(model, batch).loss_sum) == pytest.approx(-8 * math.exp(0.5), rel=1e-4)
    assert float(GRPO(importance_sampling_cap=1.2)(model, batch).loss_sum) == pytest.approx(
        -8 * 1.2, rel=1e-4
    )
    plain = GRPO(importance_sampling_correction=False)
    assert float(plain(model, batch).loss_sum) == pytest.approx(-8, rel=1e-4)


def test_temperature_scales_the_log_probabilities(model: nn.Module) -> None:
    batch = batch_of([1.0, 1.0])
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits / 0.5
    expected = logits.log_softmax(dim=-1).flatten(0, 1)[batch.target_positions]
    chosen = expected.gather(1, batch.labels.flatten()[batch.target_positions + 1][:, None])[:, 0]
    torch.testing.assert_close(target_log_probs(model, batch, 0.5), chosen, rtol=1e-5, atol=1e-4)


def test_kl_is_that_from_the_model_without_adapter(model: Any) -> None:
    batch = batch_of([0.0, 0.0], model=model)
    output = GRPO(beta=0.1)(model, batch)
    with model.disable_adapter(), torch.no_grad():
        ref = target_log_probs(model, batch)
    difference = ref - target_log_probs(model, batch).detach()
    kl = float((difference.exp() - difference - 1).sum())
    assert kl > 0.01
    assert float(output.metrics["kl"]) == pytest.approx(kl, rel=1e-4)
    assert float(output.loss_sum) == pytest.approx(0.1 * kl, rel=1e-4)


def test_a_batch_without_completions_has_a_loss_of_zero_with_a_gradient(model: nn.Module) -> None:
    collator = Collator(layout="padded", pad_token_id=0)
    sample = Sample(*(torch.arange(5).numpy().astype("int32") for _ in range(2)))
    batch = collator.collate([sample], [])
    batch = replace(batch, policy=PolicyTargets(torch.zeros(0), torch.zeros(0)))
    for loss_type in ("dapo", "grpo"):
        output = GRPO(loss_type=loss_type)(model, batch)
        assert (float(output.loss_sum), output.num_targets) == (0.0, 0)
        assert output.loss_sum.requires_grad


def test_groups_with_equal_rewards_are_left_out() -> None:
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.5, 1.0, math.nan])
    advantages = GRPO().advantages(rewards, 2)
    assert advantages.isnan().tolist() == [False, False, True, True, True, True]
    kept = GRPO(filter_zero_std_groups=False).advantages(rewards, 2)
    assert kept.isnan().tolist() == [False, False, False, False, False, True]
    assert kept[2:5].tolist() == [0.0, 0.0, 0.0]


def test_a_batch_that_was_not_sampled_is_refused(model: nn.Module) -> None:
    with pytest.raises(ConfigError) as error:
        GRPO()(model, replace(batch_of([0.0, 0.0]), policy=None))
    assert error.value.key == "data.type"
