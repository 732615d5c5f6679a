"""The reward objective on a tiny model, against formulas on the scores that transformers gives alone."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.preferences import adapted_reward_model, pair_samples, plain_scores, reward_model
from torch import Tensor

from xft.data import collate_padded, collate_padding_free
from xft.errors import ConfigError
from xft.models.scoring import reward_scores
from xft.objectives import Reward
from xft.registry import resolve
from xft.types import Batch, LossOutput, Sample

MAKERS = [reward_model, adapted_reward_model]


def _both_layouts() -> list[Batch]:
    return [collate_padding_free(pair_samples()), collate_padded(pair_samples(), pad_token_id=0)]


@pytest.mark.parametrize("make", MAKERS)
def test_reward_scores_and_gradients_equal_transformers_in_both_layouts(make: Any) -> None:
    model = make()
    expected = plain_scores(model, pair_samples())
    assert float(expected.detach().std()) > 0.1
    trained = [param for param in model.parameters() if param.requires_grad]
    weights = torch.arange(1.0, 9.0)
    expected_grads = torch.autograd.grad((weights * expected).sum(), trained)
    for batch in _both_layouts():
        scores = reward_scores(model, batch)
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
        grads = torch.autograd.grad((weights * scores).sum(), trained)
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-4)


def test_adapted_reward_model_trains_head_and_adapter_only() -> None:
    trained = {name for name, param in adapted_reward_model().named_parameters() if param.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {
        "base_model.model.score.modules_to_save.default.weight"
    }


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_score_head_equals_head_of_transformers(family: str) -> None:
    ours, bare = reward_model(family=family), reward_model(family=family, bare=True)
    torch.testing.assert_close(
        reward_scores(ours, collate_padding_free(pair_samples())),
        plain_scores(bare, pair_samples()),
        rtol=1e-5,
        atol=1e-5,
    )


def test_reward_scores_read_last_token_of_any_id_and_label() -> None:
    """Samples end in the id that pads, and in a token that is not trained: where they end counts."""
    model = reward_model(bare=True)
    samples = []
    for sample in pair_samples():
        ids, labels = sample.input_ids.copy(), sample.labels.copy()
        ids[-2:] = labels[-2] = 0
        labels[-1] = -100
        samples.append(Sample(ids, labels))
    model.config.pad_token_id = 299  # for transformers, which goes by ids
    expected = plain_scores(model, samples)
    scored = reward_model()
    for batch in (collate_padding_free(samples), collate_padded(samples, pad_token_id=0)):
        torch.testing.assert_close(reward_scores(scored, batch), expected, rtol=1e-5, atol=1e-5)


def test_reward_scores_of_packed_sample_are_independent_of_others() -> None:
    model = reward_model()
    alone = reward_scores(model, collate_padding_free(pair_samples()[2:3]))
    torch.testing.assert_close(
        alone, reward_scores(model, collate_padding_free(pair_samples()))[2:3], rtol=1e-5, atol=1e-5
    )


def test_reward_scores_of_bf16_model_are_fp32() -> None:
    """Of two answers that bf16 cannot tell apart, one is still the better."""
    half = reward_model().to(torch.bfloat16)
    scores = reward_scores(half, collate_padding_free(pair_samples()))
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = reward_scores(reward_model(), collate_padding_free(pair_samples()))
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())


def _bradley_terry(chosen: Tensor, rejected: Tensor, margin: float = 0.0) -> Tensor:
    return torch.log(1 + torch.exp(rejected - chosen + margin))


def _focal(chosen: Tensor, rejected: Tensor) -> Tensor:
    right = 1 / (1 + torch.exp(rejected - chosen))
    return -((1 - 2 * torch.clamp(right - 0.5, min=0)) ** 3) * torch.log(right)


FORMULAS: list[tuple[Reward, Callable[[Tensor, Tensor], Tensor]]] = [
    (Reward(), _bradley_terry),
    (Reward(margin=0.7), lambda c, r: _bradley_terry(c, r, 0.7)),
    (Reward(loss="focal", gamma=3.0), _focal),
    (
        Reward(penalty="l2", penalty_weight=0.5),
        lambda c, r: _bradley_terry(c, r) + 0.5 * (c * c + r * r),
    ),
    (
        Reward(penalty="log_barrier", penalty_weight=0.1, bounds=(-9.0, 8.0)),
        lambda c, r: (
            _bradley_terry(c, r) - 0.1 * torch.log((c + 9) * (8 - c)) - 0.1 * torch.log((r + 9) * (8 - r))
        ),
    ),
]


@pytest.mark.parametrize(("objective", "formula"), FORMULAS)
def test_reward_loss_equals_formula_in_both_layouts(
    objective: Reward, formula: Callable[[Tensor, Tensor], Tensor]
) -> None:
    model = reward_model()
    scores = plain_scores(model, pair_samples()).detach().double()
    expected = float(formula(scores[::2], scores[1::2]).sum())
    assert math.isfinite(expected)
    for batch in _both_layouts():
        output = objective(model, batch)
        assert output.num_targets == objective.count_targets(batch) == 4
        assert float(output.loss_sum.detach()) == pytest.approx(expected, rel=1e-5)


def _mean(output: LossOutput, name: str) -> float:
    return float(output.metrics[name]) / output.metric_denominators.get(name, output.num_targets)


def test_reward_metrics_equal_values_by_hand() -> None:
    model = reward_model()
    scores = plain_scores(model, pair_samples()).detach()
    chosen, rejected = scores[::2], scores[1::2]
    output = Reward(penalty="l2")(model, collate_padding_free(pair_samples()))
    expected = {
        "rewards/chosen": chosen.mean(),
        "rewards/rejected": rejected.mean(),
        "rewards/margins": (chosen - rejected).mean(),
        "rewards/accuracies": (chosen > rejected).double().mean(),
        "length/chosen": (5 + 2 + 6 + 1) / 4,
        "length/rejected": (7 + 4 + 3 + 9) / 4,
    }
    assert set(output.metrics) == set(expected)
    for name, value in expected.items():
        assert _mean(output, name) == pytest.approx(float(value), rel=1e-5), name


def test_reward_gradient_is_independent_of_micro_batches() -> None:
    samples = pair_samples()

    def gradient(sizes: list[int]) -> dict[str, Tensor]:
        model = adapted_reward_model()
        start = 0
        for size in sizes:
            Reward()(model, collate_padding_free(samples[start : start + 2 * size])).loss_sum.backward()
            start += 2 * size
        return {name: param.grad for name, param in model.named_parameters() if param.grad is not None}

    whole = gradient([4])
    assert any("score" in name for name in whole)
    for name, grad in gradient([3, 1]).items():
        torch.testing.assert_close(grad, whole[name], rtol=1e-4, atol=1e-5, msg=name)


def test_reward_of_dummy_batch_has_zero_loss_and_all_metrics() -> None:
    model = adapted_reward_model()
    full = Reward()(model, collate_padding_free(pair_samples()))
    for number in (1, 2):  # also half a pair
        batch = collate_padding_free(pair_samples()[:number])
        batch.labels.fill_(-100)
        empty = Reward(penalty="log_barrier")(model, batch)
        assert (empty.num_targets, float(empty.loss_sum.detach())) == (0, 0.0)
        assert set(empty.metrics) == set(full.metrics)
        model.zero_grad()
        empty.loss_sum.backward()
        trained = [param for param in model.parameters() if param.requires_grad]
        assert all(param.grad is not None and float(param.grad.abs().sum()) == 0.0 for param in trained)


def test_reward_of_odd_number_of_samples_raises_value_error() -> None:
    with pytest.raises(ValueError, match="pairs of neighbors"):
        Reward()(reward_model(), collate_padding_free(pair_samples()[:3]))


def test_reward_is_registered_with_its_data_and_model_kind() -> None:
    made: Any = resolve("objective", "reward")()
    assert (made.data_kind, made.model_kind) == ("pairs", "reward_model")


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"loss": "bradly_terry"}, "loss"),
        ({"penalty": "l3"}, "penalty"),
        ({"margin": -1.0}, "margin"),
        ({"gamma": np.nan}, "gamma"),
        ({"penalty_weight": -0.1}, "penalty_weight"),
        ({"loss": "focal", "margin": 0.5}, "margin"),
        ({"bounds": (5.0, -5.0)}, "bounds"),
    ],
)
def test_reward_argument_out_of_range_raises_config_error(arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        Reward(**arguments)
    assert error.value.key == f"objective.{key}"
    assert error.value.got is arguments[key]


def test_reward_with_misspelled_loss_suggests_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as error:
        Reward(loss="bradly_terry")  # type: ignore[arg-type]
    assert "'bradley_terry'" in error.value.fix
