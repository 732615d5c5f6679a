"""Objectives of pairs on a tiny model, against formulas on what transformers gives alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.preferences import adapted_model, pair_samples, plain_log_probs, whole_model
from torch import Tensor
from torch.nn.functional import logsigmoid

from xft.data import collate_padded, collate_padding_free
from xft.errors import ConfigError
from xft.objectives import CPO, DPO, ORPO, Objective, SimPO
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


REFERENCE_FREE: list[tuple[Objective, Callable[[Tensor, Tensor], Tensor]]] = [
    (ORPO(beta=0.5), _orpo),
    (SimPO(beta=2.0, gamma=1.0), _simpo),
    (CPO(beta=0.2, cpo_alpha=0.5), _cpo),
]
ALL_OBJECTIVES: list[Objective] = [
    *(objective for objective, _ in REFERENCE_FREE),
    DPO(),
    DPO(loss="ipo", nll_weight=0.3),
]


def _both_layouts() -> list[Batch]:
    return [collate_padding_free(pair_samples()), collate_padded(pair_samples(), pad_token_id=0)]


@pytest.mark.parametrize(("objective", "formula"), REFERENCE_FREE)
def test_pair_objective_loss_equals_formula_in_both_layouts(
    objective: Objective, formula: Callable[[Tensor, Tensor], Tensor]
) -> None:
    model = whole_model()
    log_probs = plain_log_probs(model, pair_samples())
    expected = formula(log_probs[::2], log_probs[1::2]).sum()
    for batch in _both_layouts():
        output = objective(model, batch)
        assert output.num_targets == objective.count_targets(batch) == 4
        assert float(output.loss_sum.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("objective", ALL_OBJECTIVES)
def test_pair_objective_gradient_is_independent_of_micro_batches(objective: Objective) -> None:
    samples = pair_samples()

    def gradient(sizes: list[int]) -> dict[str, Tensor]:
        model = adapted_model()
        start = 0
        for size in sizes:
            objective(model, collate_padding_free(samples[start : start + 2 * size])).loss_sum.backward()
            start += 2 * size
        return {name: param.grad for name, param in model.named_parameters() if param.grad is not None}

    whole = gradient([4])
    assert whole
    for sizes in ([1, 1, 1, 1], [3, 1]):
        for name, grad in gradient(sizes).items():
            torch.testing.assert_close(grad, whole[name], rtol=1e-4, atol=1e-5, msg=name)


def _mean(output: LossOutput, name: str) -> float:
    return float(output.metrics[name]) / output.metric_denominators.get(name, output.num_targets)


@pytest.mark.parametrize("objective", ALL_OBJECTIVES)
def test_pair_objective_of_swapped_pairs_has_negative_margin(objective: Objective) -> None:
    model = adapted_model()
    samples = pair_samples()
    swapped = [samples[index ^ 1] for index in range(len(samples))]
    original, reverse = (objective(model, collate_padding_free(order)) for order in (samples, swapped))
    assert _mean(original, "rewards/margins") == pytest.approx(-_mean(reverse, "rewards/margins"), rel=1e-4)
    assert abs(_mean(original, "rewards/margins")) > 1e-4
    assert _mean(original, "rewards/accuracies") + _mean(reverse, "rewards/accuracies") == 1.0
    for name in ("rewards", "logps", "length"):
        assert _mean(original, f"{name}/chosen") == pytest.approx(
            _mean(reverse, f"{name}/rejected"), rel=1e-4
        )


@pytest.mark.parametrize("objective", ALL_OBJECTIVES)
def test_pair_objective_of_dummy_batch_has_zero_loss_and_all_metrics(objective: Objective) -> None:
    model = adapted_model()
    full = objective(model, collate_padding_free(pair_samples()))
    for number in (1, 2):  # 1: half a pair
        batch = collate_padding_free(pair_samples()[:number])
        batch.labels.fill_(-100)
        assert objective.count_targets(batch) == 0
        empty = objective(model, batch)
        assert empty.num_targets == 0
        assert float(empty.loss_sum.detach()) == 0.0
        assert set(empty.metrics) == set(full.metrics)
        assert all(float(value) == 0.0 for value in empty.metrics.values())
        model.zero_grad()
        empty.loss_sum.backward()
        trained = [param for param in model.parameters() if param.requires_grad]
        assert all(param.grad is not None and float(param.grad.abs().sum()) == 0.0 for param in trained)


@pytest.mark.parametrize("objective", ALL_OBJECTIVES)
def test_pair_objective_of_odd_number_of_samples_raises_value_error(objective: Objective) -> None:
    with pytest.raises(ValueError, match="pairs of neighbors"):
        objective.count_targets(collate_padding_free(pair_samples()[:3]))
    with pytest.raises(ValueError, match="pairs of neighbors"):
        objective(adapted_model(), collate_padding_free(pair_samples()[:3]))


@pytest.mark.parametrize("objective", ALL_OBJECTIVES)
def test_pair_objective_loss_depends_on_prompt(objective: Objective) -> None:
    """The completions of the first pair are the same after another prompt; only the loss changes."""
    model = adapted_model()
    samples = pair_samples()
    before = objective(model, collate_padding_free(samples[:2]))
    for sample in samples[:2]:
        sample.input_ids[0] = 55
    after = objective(model, collate_padding_free(samples[:2]))
    assert float(after.loss_sum) != float(before.loss_sum)
    assert _mean(after, "length/chosen") == _mean(before, "length/chosen") == 5


class Hinge(PairObjective):
    """Pair objective as in docs/preference.md."""

    def pair_losses(self, pairs: PairLogProbs) -> PairLosses:
        chosen, rejected = 0.1 * pairs.chosen.mean, 0.1 * pairs.rejected.mean
        return PairLosses((1 - chosen + rejected).relu(), chosen, rejected)


def test_user_pair_objective_needs_pair_losses_only() -> None:
    model = whole_model()
    log_probs = plain_log_probs(model, pair_samples()).detach()
    means = log_probs[::2] / CHOSEN_LENGTHS, log_probs[1::2] / REJECTED_LENGTHS
    expected = torch.clamp(1 - 0.1 * (means[0] - means[1]), min=0).sum()
    output = Hinge()(model, collate_padding_free(pair_samples()))
    assert float(output.loss_sum.detach()) == pytest.approx(float(expected), rel=1e-5)
    assert Hinge().data_kind == "pairs"


def test_pair_objectives_are_registered_with_their_data_kind() -> None:
    assert {"orpo", "dpo", "simpo", "cpo", "kto", "sft", "pretrain"} <= set(list_registered("objective"))
    for name in ("orpo", "dpo", "simpo", "cpo"):
        objective: Any = resolve("objective", name)()
        assert objective.data_kind == "pairs"
    kto: Any = resolve("objective", "kto")()
    assert kto.data_kind == "labelled answers"


@pytest.mark.parametrize(
    ("make", "key", "got"),
    [
        (lambda: ORPO(beta=0), "beta", 0),
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
    assert error.value.got == got
    assert "\n" not in str(error.value)


def test_dpo_with_misspelled_loss_suggests_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as error:
        DPO(loss="sigmoit")  # type: ignore[arg-type]
    assert "'sigmoid'" in error.value.fix
