"""The local engine: batches of completions, in the order of the prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import tiny_family
from torch import Tensor, nn

from xft.models.checks.attention_checks import check_loaded
from xft.models.sampling import SampledTokens, SamplingOptions, derive_seed
from xft.rollouts import LocalEngine, PolicyModel, engines

OPTIONS = SamplingOptions(6, 1.0, [3], 0)
PROMPTS = [[number] * length for number, length in enumerate((5, 1, 4, 2, 3, 4))]
SEEDS = [[derive_seed(prompt, number) for number in range(2)] for prompt in range(len(PROMPTS))]


def policy_of(model: nn.Module, rounds: int = 0) -> PolicyModel:
    """A policy; with ``rounds``, another rank has so many batches."""
    asked: list[bool] = []

    def any_rank(value: bool) -> bool:
        asked.append(value)
        return value or len(asked) <= rounds

    return PolicyModel(model, any_rank, 0, Path(), lambda folder: None, lambda function: function())


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Lengths of the prompts of each batch that the engine samples."""
    lengths: list[list[int]] = []

    def sample(
        model: Any, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], *_: Any
    ) -> list[list[SampledTokens]]:
        lengths.append([len(prompt) for prompt in prompts])
        return [
            [SampledTokens([prompt[0], seed]) for seed in group]
            for prompt, group in zip(prompts, seeds, strict=True)
        ]

    monkeypatch.setattr(engines, "sample_completions", sample)
    return lengths


def test_prompts_of_similar_length_are_sampled_together(batches: list[list[int]]) -> None:
    policy = policy_of(tiny_family("llama"))
    groups = LocalEngine(batch_size=4).generate(policy, PROMPTS, SEEDS, OPTIONS)
    assert batches == [[1, 2], [3, 4], [4, 5]]
    assert [[item.ids for item in group] for group in groups] == [
        [[number, seed] for seed in seeds] for number, seeds in enumerate(SEEDS)
    ]
    assert LocalEngine().generate(policy, [], [], OPTIONS) == []


def test_prompts_of_a_model_that_cannot_be_padded_have_equal_lengths(batches: list[list[int]]) -> None:
    LocalEngine(batch_size=4).generate(policy_of(tiny_family("llama4_text")), PROMPTS, SEEDS, OPTIONS)
    assert batches == [[1], [2], [3], [4, 4], [5]]


def test_rank_with_fewer_batches_computes_along(batches: list[list[int]]) -> None:
    """With sharded parameters, forward passes are collective."""
    policy = policy_of(tiny_family("llama"), rounds=5)
    groups = LocalEngine(batch_size=4).generate(policy, PROMPTS, SEEDS, OPTIONS)
    assert batches == [[1, 2], [3, 4], [4, 5], [4, 5], [4, 5]]
    assert len(groups) == len(PROMPTS)


@pytest.mark.parametrize("family", ["llama", "llama4_text", "recurrent_gemma", "rwkv", "mamba", "lfm2"])
def test_completions_are_those_of_each_prompt_alone(family: str) -> None:
    """Also in models that cannot be padded, and with states that no cache of transformers holds."""
    model = tiny_family(family)
    together = LocalEngine().generate(policy_of(model), PROMPTS, SEEDS, OPTIONS)
    for prompt, seeds, group in zip(PROMPTS, SEEDS, together, strict=True):
        (alone,) = LocalEngine().generate(policy_of(model), [prompt], [seeds], OPTIONS)
        assert [item.ids for item in group] == [item.ids for item in alone]
        for item in group:
            expected = _log_probs(model, prompt, item)
            torch.testing.assert_close(
                torch.tensor(item.log_probs, dtype=torch.float64), expected, rtol=0, atol=1e-3
            )
    assert {item.ids[0] for group in together for item in group} - {0}
    assert check_loaded(model).exact


def _log_probs(model: nn.Module, prompt: list[int], item: SampledTokens) -> Tensor:
    """Log-probabilities of a completion in one forward pass without a cache."""
    ids = torch.tensor([[*prompt, *item.ids]])
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return logits.double().log_softmax(dim=-1).gather(1, ids[0, len(prompt) :, None])[:, 0]
