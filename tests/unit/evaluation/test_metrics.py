"""Sums over batches and ranks, and the validation of any objective."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from helpers.preferences import adapted_model, pair_samples, plain_log_probs, whole_model

from xft.data import Collator
from xft.evaluation import evaluate
from xft.evaluation.metrics import MetricAccumulator
from xft.evaluation.validation import validation_batches
from xft.models import TrainingModel
from xft.objectives import CPO, DPO, ORPO, next_token
from xft.types import IGNORE_INDEX, LossOutput, Sample

CPU = torch.device("cpu")


def _output(
    loss: float, targets: int, weights: dict[str, float] | None = None, **metrics: float
) -> LossOutput:
    tensors = {name: torch.tensor(value) for name, value in metrics.items()}
    return LossOutput(torch.tensor(loss), targets, tensors, weights or {})


def test_means_are_over_all_things_however_they_are_cut() -> None:
    """Loss (6 + 2) / (3 + 1); a over targets; b over its own 2 + 8; c, of which there was nothing."""
    tally = MetricAccumulator()
    tally.add(_output(6.0, 3, {"b": 2, "c": 0}, a=3.0, b=1.0, c=0.0))
    tally.add(_output(2.0, 1, {"b": 8, "c": 0}, a=0.0, b=4.0, c=0.0))
    assert tally.means() == {"loss": 2.0, "targets": 4.0, "a": 0.75, "b": 0.5}


def test_ranks_meet_in_sums() -> None:
    """Another rank with loss 10 over 4 targets, a 1, b 3 over 2: the order is loss, targets, the sums
    by name, their weights by name."""
    other = [10.0, 4.0, 1.0, 3.0, 4.0, 2.0]

    def reduce_sum(values: Sequence[float]) -> list[float]:
        return [mine + theirs for mine, theirs in zip(values, other, strict=True)]

    tally = MetricAccumulator()
    tally.add(_output(2.0, 2, {"b": 4}, b=6.0, a=2.0))
    assert tally.means(reduce_sum) == {"loss": 2.0, "targets": 6.0, "a": 0.5, "b": 1.5}


def test_nothing_at_all_has_no_loss() -> None:
    assert MetricAccumulator().means() == {"targets": 0.0}


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_every_pair_is_validated_once_and_all_ranks_have_equally_many_batches(ranks: int) -> None:
    shares = [
        list(validation_batches(pair_samples(), 3, Collator(2), rank, ranks)) for rank in range(ranks)
    ]
    assert len({len(each) for each in shares}) == 1
    seen = []
    for batch in (batch for share in shares for batch in share):
        if batch.num_targets:
            ids = [tuple(each.tolist()) for each in batch.split(batch.input_ids)]
            seen += list(zip(ids[::2], ids[1::2], strict=True))
    expected = [tuple(each.input_ids.tolist()) for each in pair_samples()]
    assert sorted(seen) == sorted(zip(expected[::2], expected[1::2], strict=True))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("collator", [Collator(2), Collator(2, "padded", 0)])
def test_validation_of_pairs_is_the_mean_over_all_pairs(batch_size: int, collator: Collator) -> None:
    model = whole_model()
    log_probs = plain_log_probs(model, pair_samples()).detach()
    chosen, rejected = log_probs[::2], log_probs[1::2]
    batches = validation_batches(pair_samples(), batch_size, collator)
    found = evaluate(TrainingModel(model, CPO(beta=0.2, cpo_alpha=0.0)), batches, CPU)
    expected = -torch.nn.functional.logsigmoid(0.2 * (chosen - rejected)).mean()
    assert found["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert found["rewards/margins"] == pytest.approx(0.2 * float((chosen - rejected).mean()), rel=1e-4)
    assert found["nll_loss"] == pytest.approx(-float(chosen.sum()) / 14, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["nll_loss"]))
    assert found["target_tokens"] == 37


def test_validation_of_tokens_is_what_it_was() -> None:
    """Loss, perplexity and accuracy, by what transformers gives alone."""
    model = whole_model()
    samples = pair_samples()
    expected = -float(plain_log_probs(model, samples).sum().detach()) / 37
    found = evaluate(TrainingModel(model, next_token), validation_batches(samples, 3, Collator()), CPU)
    correct = 0
    for each in samples:
        ids = torch.from_numpy(each.input_ids.astype(np.int64))
        guess = model(input_ids=ids[None]).logits[0, :-1].argmax(-1)
        correct += int((guess == torch.from_numpy(each.labels.astype(np.int64))[1:]).sum())
    assert set(found) == {"loss", "perplexity", "accuracy", "target_tokens"}
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    assert found["accuracy"] == pytest.approx(correct / 37)


def test_an_objective_whose_loss_is_no_likelihood_has_no_perplexity() -> None:
    def answers(model: Any, batch: Any) -> LossOutput:
        return LossOutput(torch.tensor(3.0), batch.num_samples)

    found = evaluate(
        TrainingModel(whole_model(), answers), validation_batches(pair_samples(), 8, Collator(2)), CPU
    )
    assert found == {"loss": 3 / 8, "target_tokens": 37}


@pytest.mark.parametrize("objective", [ORPO(), DPO()])
def test_the_model_is_left_as_it_was(objective: Any) -> None:
    training = TrainingModel(adapted_model(dropout=0.5), objective).train()
    first, second = (
        evaluate(training, validation_batches(pair_samples(), 2, Collator(2)), CPU) for _ in range(2)
    )
    assert first == second
    assert all(each.training for each in training.modules())


def test_nothing_to_validate_on_has_no_loss() -> None:
    nothing = Sample(np.arange(3, dtype=np.int32), np.full(3, IGNORE_INDEX, dtype=np.int32))
    found = evaluate(
        TrainingModel(whole_model(), next_token), validation_batches([nothing], 1, Collator()), CPU
    )
    assert math.isnan(found["loss"])
    assert found["target_tokens"] == 0
