"""Sampling of completions: the distribution, log-probabilities, independence of the batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from helpers.tolerances import tolerance
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import AutoConfig

from xft.models import LoRA
from xft.models.sampling import (
    SampledTokens,
    SamplingOptions,
    completion_log_probs,
    derive_seed,
    sample_completions,
)

PROMPTS = [[5, 6, 7, 8, 9], [11, 12], [20, 21, 22]]
OPTIONS = SamplingOptions(max_new_tokens=12, temperature=0.7, stop_ids=[3], pad_token_id=0)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_model("llama")


def tiny_model(family: str, **extra: Any) -> nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        vocab_size=48,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        **extra,
    )
    result = AutoModelForCausalLM.from_config(config)
    for parameter in result.parameters():
        parameter.data.mul_(6)
    return result


def seeds(count: int, prompts: int = len(PROMPTS)) -> list[list[int]]:
    return [[derive_seed(0, 1, prompt, number) for number in range(count)] for prompt in range(prompts)]


def log_probs_of(model: nn.Module, prompt: list[int], completion: SampledTokens, temperature: float) -> Any:
    """Compute the log-probabilities of a completion in one forward pass without cache and padding."""
    ids = torch.tensor([[*prompt, *completion.ids]])
    with torch.no_grad():
        logits = model.eval()(input_ids=ids).logits[0, len(prompt) - 1 : -1] / temperature
    return logits.log_softmax(dim=-1)


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_log_probs_and_entropies_are_those_of_a_forward_pass(family: str) -> None:
    model = tiny_model(family)
    groups = sample_completions(model, PROMPTS, seeds(4), OPTIONS)
    assert [len(group) for group in groups] == [4, 4, 4]
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for completion in group:
            expected = log_probs_of(model, prompt, completion, OPTIONS.temperature)
            chosen = expected.gather(1, torch.tensor(completion.ids)[:, None])[:, 0]
            bound = tolerance(torch.float32, 32 * 8, scale=20)
            torch.testing.assert_close(torch.tensor(completion.log_probs), chosen, rtol=0, atol=bound)
            entropies = -(expected.exp() * expected).sum(dim=-1)
            torch.testing.assert_close(torch.tensor(completion.entropies), entropies, rtol=1e-3, atol=1e-4)


def test_a_completion_ends_with_its_stop_token_or_at_the_limit(model: nn.Module) -> None:
    completions = [
        item for group in sample_completions(model, PROMPTS, seeds(8), OPTIONS) for item in group
    ]
    assert {item.stopped for item in completions} == {True, False}
    for item in completions:
        assert (3 in item.ids) == item.stopped
        assert (
            item.ids.index(3) == len(item.ids) - 1
            if item.stopped
            else len(item.ids) == OPTIONS.max_new_tokens
        )
        assert len(item.ids) == len(item.log_probs) == len(item.entropies)


def test_a_completion_does_not_depend_on_its_batch(model: nn.Module) -> None:
    together = sample_completions(model, PROMPTS, seeds(4), OPTIONS)
    for index, prompt in enumerate(PROMPTS):
        alone = sample_completions(model, [prompt], [seeds(4)[index][1:3]], OPTIONS)
        assert [item.ids for item in alone[0]] == [item.ids for item in together[index][1:3]]


def test_completions_of_a_group_and_of_another_step_differ(model: nn.Module) -> None:
    (group,) = sample_completions(model, PROMPTS[:1], seeds(8, 1), OPTIONS)
    assert len({tuple(item.ids) for item in group}) > 1
    other = [[derive_seed(0, 2, 0, number) for number in range(8)]]
    (later,) = sample_completions(model, PROMPTS[:1], other, OPTIONS)
    assert [item.ids for item in later] != [item.ids for item in group]


def test_tokens_follow_the_distribution_of_the_model(model: nn.Module) -> None:
    count = 4000
    options = SamplingOptions(1, 1.0, [], 0)
    (group,) = sample_completions(model, PROMPTS[:1], seeds(count, 1), options)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(PROMPTS[:1])).logits[0, -1].softmax(dim=-1)
    counts = torch.bincount(torch.tensor([item.ids[0] for item in group]), minlength=48) / count
    # Standard error of a share p of n draws: sqrt(p (1 - p) / n); five of them.
    assert bool(((counts - expected).abs() <= 5 * (expected * (1 - expected) / count).sqrt() + 1e-3).all())


def test_sampling_restores_the_mode_of_the_model(model: nn.Module) -> None:
    model.train()
    sample_completions(model, PROMPTS[:1], seeds(2, 1), OPTIONS)
    assert model.training


def test_adapters_are_computed_as_in_training(base: Path) -> None:
    adapter = LoRA(r=4, lora_alpha=8, lora_dropout=0.1)
    model = load_model(base, adapter, dtype="bfloat16").eval()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    layer: Any = next(module for module in model.modules() if isinstance(module, LoraLayer))
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = layer.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0], output)))
    sample_completions(model, PROMPTS[:1], seeds(2, 1), OPTIONS)
    handle.remove()
    assert not layer.training
    assert not torch.equal(layer(calls[0][0]), calls[0][1])
    layer.lora_dropout["default"].p = 0.0
    layer.train()
    assert all(torch.equal(layer(inputs), output) for inputs, output in calls)


def test_log_probs_of_a_completion_are_those_of_its_sampling(model: nn.Module) -> None:
    groups = sample_completions(model, PROMPTS, seeds(1), OPTIONS)
    for prompt, (completion,) in zip(PROMPTS, groups, strict=True):
        log_probs = completion_log_probs(model, prompt, completion.ids, OPTIONS.temperature)
        bound = tolerance(torch.float32, 48 * 14, scale=20)
        torch.testing.assert_close(log_probs, torch.tensor(completion.log_probs), rtol=0, atol=bound)
        assert not torch.allclose(completion_log_probs(model, prompt, completion.ids, 1.0), log_probs)
