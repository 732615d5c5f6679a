"""Objectives of pairs on a tiny model, against formulas on what transformers gives alone."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.preferences import adapted_model, pair_samples, plain_log_probs, whole_model
from torch import Tensor
from torch.nn.functional import logsigmoid

from xft.data import collate_padded, collate_padding_free
from xft.errors import ConfigError
from xft.objectives import CPO, DPO, ORPO, Objective, SimPO, next_token
from xft.objectives.paired import PairLogProbs, PairLosses, PairObjective
from xft.registry import list_registered, resolve
from xft.types import Batch, LossOutput

CHOSEN_LENGTHS = torch.tensor([5.0, 2.0, 6.0, 1.0], dtype=torch.float64)
REJECTED_LENGTHS = torch.tensor([7.0, 4.0, 3.0, 9.0], dtype=torch.float64)


def _log_odds(mean: Tensor) -> Tensor:
    return mean - torch.log(1 - torch.exp(mean))


def _orpo(chosen: Tensor, rejected: Tensor) -> Tensor:
    mean_chosen, mean_rejected = chosen / CHOSEN_LENGTHS, rejected / REJECTED_LENGTHS
    return -mean_chosen - 0.5 * logsigmoid(_log_odds(mean_chosen) - _log_odds(mean_rejected))


def _simpo(chosen: Tensor, rejected: Tensor) -> Tensor:
    return -logsigmoid(2 * chosen / CHOSEN_LENGTHS - 2 * rejected / REJECTED_LENGTHS - 1)


def _cpo(chosen: Tensor, rejected: Tensor) -> Tensor:
    return -logsigmoid(0.2 * (chosen - rejected)) - 0.5 * chosen / CHOSEN_LENGTHS


FREE: list[tuple[Objective, Callable[[Tensor, Tensor], Tensor]]] = [
    (ORPO(beta=0.5), _orpo),
    (SimPO(beta=2.0, gamma=1.0), _simpo),
    (CPO(beta=0.2, cpo_alpha=0.5), _cpo),
]
EVERY: list[Objective] = [*(each for each, _ in FREE), DPO(), DPO(loss="ipo", nll_weight=0.3)]


def _both() -> list[Batch]:
    return [collate_padding_free(pair_samples()), collate_padded(pair_samples(), pad_token_id=0)]


@pytest.mark.parametrize(("objective", "formula"), FREE)
def test_loss_is_the_formula_summed_over_pairs_in_both_layouts(
    objective: Objective, formula: Callable[[Tensor, Tensor], Tensor]
) -> None:
    model = whole_model()
    log_probs = plain_log_probs(model, pair_samples())
    expected = formula(log_probs[::2], log_probs[1::2]).sum()
    for batch in _both():
        output = objective(model, batch)
        assert output.num_targets == objective.count_targets(batch) == 4
        assert float(output.loss_sum.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("objective", EVERY)
def test_any_cut_into_batches_gives_the_same_gradient(objective: Objective) -> None:
    samples = pair_samples()

    def gradient(sizes: list[int]) -> dict[str, Tensor]:
        model = adapted_model()
        start = 0
        for size in sizes:
            objective(model, collate_padding_free(samples[start : start + 2 * size])).loss_sum.backward()
            start += 2 * size
        return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}

    whole = gradient([4])
    assert whole
    for sizes in ([1, 1, 1, 1], [3, 1]):
        for name, each in gradient(sizes).items():
            torch.testing.assert_close(each, whole[name], rtol=1e-4, atol=1e-5, msg=name)


def _mean(output: LossOutput, name: str) -> float:
    return float(output.metrics[name]) / output.metric_denominators.get(name, output.num_targets)


@pytest.mark.parametrize("objective", EVERY)
def test_swapping_chosen_and_rejected_turns_the_margin_around(objective: Objective) -> None:
    model = adapted_model()
    samples = pair_samples()
    swapped = [samples[each ^ 1] for each in range(len(samples))]
    there, back = (objective(model, collate_padding_free(each)) for each in (samples, swapped))
    assert _mean(there, "rewards/margins") == pytest.approx(-_mean(back, "rewards/margins"), rel=1e-4)
    assert abs(_mean(there, "rewards/margins")) > 1e-4
    assert _mean(there, "rewards/accuracies") + _mean(back, "rewards/accuracies") == 1.0
    for name in ("rewards", "logps", "length"):
        assert _mean(there, f"{name}/chosen") == pytest.approx(_mean(back, f"{name}/rejected"), rel=1e-4)


def test_metrics_by_hand() -> None:
    model = whole_model()
    log_probs = plain_log_probs(model, pair_samples()).detach()
    chosen, rejected = log_probs[::2], log_probs[1::2]
    output = CPO(beta=0.2)(model, collate_padding_free(pair_samples()))
    expected = {
        "rewards/chosen": 0.2 * chosen.mean(),
        "rewards/rejected": 0.2 * rejected.mean(),
        "rewards/margins": 0.2 * (chosen - rejected).mean(),
        "rewards/accuracies": (chosen > rejected).double().mean(),
        "logps/chosen": chosen.mean(),
        "logps/rejected": rejected.mean(),
        "length/chosen": (5 + 2 + 6 + 1) / 4,
        "length/rejected": (7 + 4 + 3 + 9) / 4,
        "nll_loss": -chosen.sum() / 14,
    }
    assert set(output.metrics) == set(expected)
    for name, value in expected.items():
        assert _mean(output, name) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize("objective", EVERY)
def test_a_batch_without_targets_has_no_weight_and_the_names_of_others(objective: Objective) -> None:
    model = adapted_model()
    full = objective(model, collate_padding_free(pair_samples()))
    for number in (1, 2):  # also half a pair
        batch = collate_padding_free(pair_samples()[:number])
        batch.labels.fill_(-100)
        assert objective.count_targets(batch) == 0
        empty = objective(model, batch)
        assert empty.num_targets == 0
        assert float(empty.loss_sum.detach()) == 0.0
        assert set(empty.metrics) == set(full.metrics)
        assert all(float(each) == 0.0 for each in empty.metrics.values())
        model.zero_grad()
        empty.loss_sum.backward()
        trained = [each for each in model.parameters() if each.requires_grad]
        assert all(each.grad is not None and float(each.grad.abs().sum()) == 0.0 for each in trained)


@pytest.mark.parametrize("objective", EVERY)
def test_half_a_pair_is_refused(objective: Objective) -> None:
    with pytest.raises(ValueError, match="pairs of neighbors"):
        objective.count_targets(collate_padding_free(pair_samples()[:3]))
    with pytest.raises(ValueError, match="pairs of neighbors"):
        objective(adapted_model(), collate_padding_free(pair_samples()[:3]))


@pytest.mark.parametrize("objective", EVERY)
def test_what_the_prompt_is_made_of_matters_and_its_labels_do_not(objective: Objective) -> None:
    """The first answers are the same under another prompt: the loss changes. Lengths do not."""
    model = adapted_model()
    samples = pair_samples()
    before = objective(model, collate_padding_free(samples[:2]))
    for each in samples[:2]:
        each.input_ids[0] = 55
    after = objective(model, collate_padding_free(samples[:2]))
    assert float(after.loss_sum) != float(before.loss_sum)
    assert _mean(after, "length/chosen") == _mean(before, "length/chosen") == 5


class Hinge(PairObjective):
    """The objective that docs/preference.md writes."""

    def pair_losses(self, pairs: PairLogProbs) -> PairLosses:
        chosen, rejected = 0.1 * pairs.chosen.mean, 0.1 * pairs.rejected.mean
        return PairLosses((1 - chosen + rejected).relu(), chosen, rejected)


def test_an_objective_of_the_users_own_needs_its_formula_alone() -> None:
    model = whole_model()
    log_probs = plain_log_probs(model, pair_samples()).detach()
    means = log_probs[::2] / CHOSEN_LENGTHS, log_probs[1::2] / REJECTED_LENGTHS
    expected = torch.clamp(1 - 0.1 * (means[0] - means[1]), min=0).sum()
    output = Hinge()(model, collate_padding_free(pair_samples()))
    assert float(output.loss_sum.detach()) == pytest.approx(float(expected), rel=1e-5)
    assert Hinge().data_kind == "pairs"


def test_an_objective_without_a_count_counts_tokens() -> None:
    batch = collate_padding_free(pair_samples())
    assert next_token.count_targets(batch) == batch.num_targets == int(np.sum([5, 7, 2, 4, 6, 3, 1, 9]))


def test_they_are_registered_and_say_what_they_learn_from() -> None:
    assert {"orpo", "dpo", "simpo", "cpo", "kto", "sft", "pretrain"} <= set(list_registered("objective"))
    for name in ("orpo", "dpo", "simpo", "cpo"):
        made: Any = resolve("objective", name)()
        assert made.data_kind == "pairs"
    kto: Any = resolve("objective", "kto")()
    assert kto.data_kind == "labelled answers"


@pytest.mark.parametrize(
    ("make", "key", "got"),
    [
        (lambda: ORPO(beta=0), "beta", 0),
        (lambda: SimPO(gamma=-1), "gamma", -1),
        (lambda: CPO(label_smoothing=0.5), "label_smoothing", 0.5),
        (lambda: CPO(cpo_alpha=math.nan), "cpo_alpha", math.nan),
        (lambda: DPO(loss="sigmoit"), "loss", "sigmoit"),  # type: ignore[arg-type]
        (lambda: DPO(loss="ipo", label_smoothing=0.1), "label_smoothing", 0.1),
    ],
)
def test_hyperparameter_out_of_range_raises_config_error(
    make: Callable[[], Objective], key: str, got: object
) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert error.value.key == f"objective.{key}"
    assert error.value.got is got or error.value.got == got
    assert "\n" not in str(error.value)


def test_dpo_with_misspelled_loss_suggests_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as error:
        DPO(loss="sigmoit")  # type: ignore[arg-type]
    assert "'sigmoid'" in error.value.fix
