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


def _both() -> list[Batch]:
    return [collate_padding_free(pair_samples()), collate_padded(pair_samples(), pad_token_id=0)]


@pytest.mark.parametrize("make", MAKERS)
def test_packed_and_padded_scores_are_those_of_transformers_with_their_gradients(make: Any) -> None:
    model = make()
    expected = plain_scores(model, pair_samples())
    assert float(expected.detach().std()) > 0.1
    trained = [each for each in model.parameters() if each.requires_grad]
    weights = torch.arange(1.0, 9.0)
    wanted = torch.autograd.grad((weights * expected).sum(), trained)
    for batch in _both():
        scores = reward_scores(model, batch)
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
        for mine, other in zip(torch.autograd.grad((weights * scores).sum(), trained), wanted, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_the_head_is_trained_beside_an_adapter_and_no_other_whole_layer() -> None:
    trained = {name for name, each in adapted_reward_model().named_parameters() if each.requires_grad}
    assert {each for each in trained if "lora_" not in each} == {
        "base_model.model.score.modules_to_save.default.weight"
    }


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_the_scalar_head_gives_what_the_head_of_transformers_gives(family: str) -> None:
    ours, bare = reward_model(family=family), reward_model(family=family, bare=True)
    torch.testing.assert_close(
        reward_scores(ours, collate_padding_free(pair_samples())),
        plain_scores(bare, pair_samples()),
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_last_token_is_read_whatever_its_id_and_label() -> None:
    """Samples end in the id that pads, and in a token that is not trained: where they end counts."""
    model = reward_model(bare=True)
    samples = []
    for each in pair_samples():
        ids, labels = each.input_ids.copy(), each.labels.copy()
        ids[-2:] = labels[-2] = 0
        labels[-1] = -100
        samples.append(Sample(ids, labels))
    model.config.pad_token_id = 299  # for transformers, which goes by ids
    expected = plain_scores(model, samples)
    scored = reward_model()
    for batch in (collate_padding_free(samples), collate_padded(samples, pad_token_id=0)):
        torch.testing.assert_close(reward_scores(scored, batch), expected, rtol=1e-5, atol=1e-5)


def test_other_samples_of_a_flat_batch_have_no_say() -> None:
    model = reward_model()
    alone = reward_scores(model, collate_padding_free(pair_samples()[2:3]))
    torch.testing.assert_close(
        alone, reward_scores(model, collate_padding_free(pair_samples()))[2:3], rtol=1e-5, atol=1e-5
    )


def test_scores_are_in_fp32_also_where_the_model_is_in_bf16_or_autocast() -> None:
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
def test_loss_is_the_formula_summed_over_pairs_in_both_layouts(
    objective: Reward, formula: Callable[[Tensor, Tensor], Tensor]
) -> None:
    model = reward_model()
    scores = plain_scores(model, pair_samples()).detach().double()
    expected = float(formula(scores[::2], scores[1::2]).sum())
    assert math.isfinite(expected)
    for batch in _both():
        output = objective(model, batch)
        assert output.num_targets == objective.count_targets(batch) == 4
        assert float(output.loss_sum.detach()) == pytest.approx(expected, rel=1e-5)


def _mean(output: LossOutput, name: str) -> float:
    return float(output.metrics[name]) / output.metric_denominators.get(name, output.num_targets)


def test_metrics_by_hand() -> None:
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


def test_any_cut_into_batches_gives_the_same_gradient() -> None:
    samples = pair_samples()

    def gradient(sizes: list[int]) -> dict[str, Tensor]:
        model = adapted_reward_model()
        start = 0
        for size in sizes:
            Reward()(model, collate_padding_free(samples[start : start + 2 * size])).loss_sum.backward()
            start += 2 * size
        return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}

    whole = gradient([4])
    assert any("score" in name for name in whole)
    for name, each in gradient([3, 1]).items():
        torch.testing.assert_close(each, whole[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_batch_without_targets_has_no_weight_and_the_names_of_others() -> None:
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
        trained = [each for each in model.parameters() if each.requires_grad]
        assert all(each.grad is not None and float(each.grad.abs().sum()) == 0.0 for each in trained)


def test_half_a_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="pairs of neighbors"):
        Reward()(reward_model(), collate_padding_free(pair_samples()[:3]))


def test_it_is_registered_and_says_what_it_wants() -> None:
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
