"""Loss and metrics of the validation split, against transformers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.preferences import adapted_model, pair_samples, plain_log_probs, whole_model

from xft.data import Collator
from xft.evaluation import evaluate
from xft.evaluation.validation import validation_batches
from xft.models import TrainingModel
from xft.objectives import CPO, DPO, ORPO, next_token
from xft.types import IGNORE_INDEX, LossOutput, Sample

CPU = torch.device("cpu")


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_validation_batches_of_all_ranks_have_every_pair_once_and_equal_counts(ranks: int) -> None:
    batches_of_ranks = [
        list(validation_batches(pair_samples(), 3, Collator(2), rank, ranks)) for rank in range(ranks)
    ]
    assert len({len(batches) for batches in batches_of_ranks}) == 1
    pairs = []
    for batch in (batch for batches in batches_of_ranks for batch in batches):
        if batch.num_targets:
            ids = [tuple(ids.tolist()) for ids in batch.split(batch.input_ids)]
            pairs += list(zip(ids[::2], ids[1::2], strict=True))
    expected = [tuple(sample.input_ids.tolist()) for sample in pair_samples()]
    assert sorted(pairs) == sorted(zip(expected[::2], expected[1::2], strict=True))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("collator", [Collator(2), Collator(2, "padded", 0)])
def test_evaluate_pairs_gives_the_mean_over_all_pairs(batch_size: int, collator: Collator) -> None:
    model = whole_model()
    log_probs = plain_log_probs(model, pair_samples()).detach()
    chosen, rejected = log_probs[::2], log_probs[1::2]
    batches = validation_batches(pair_samples(), batch_size, collator)
    result = evaluate(TrainingModel(model, CPO(beta=0.2, cpo_alpha=0.0)), batches, CPU)
    expected = -torch.nn.functional.logsigmoid(0.2 * (chosen - rejected)).mean()
    assert result["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert result["rewards/margins"] == pytest.approx(0.2 * float((chosen - rejected).mean()), rel=1e-4)
    assert result["nll_loss"] == pytest.approx(-float(chosen.sum()) / 14, rel=1e-5)
    assert result["perplexity"] == pytest.approx(math.exp(result["nll_loss"]))
    assert result["target_tokens"] == 37


def test_evaluate_tokens_equals_transformers() -> None:
    """Loss, perplexity and accuracy, computed with transformers alone."""
    model = whole_model()
    samples = pair_samples()
    expected = -float(plain_log_probs(model, samples).sum().detach()) / 37
    result = evaluate(TrainingModel(model, next_token), validation_batches(samples, 3, Collator()), CPU)
    correct = 0
    for sample in samples:
        ids = torch.from_numpy(sample.input_ids.astype(np.int64))
        guess = model(input_ids=ids[None]).logits[0, :-1].argmax(-1)
        correct += int((guess == torch.from_numpy(sample.labels.astype(np.int64))[1:]).sum())
    assert set(result) == {"loss", "perplexity", "accuracy", "target_tokens"}
    assert result["loss"] == pytest.approx(expected, rel=1e-5)
    assert result["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    assert result["accuracy"] == pytest.approx(correct / 37)


def test_evaluate_loss_that_is_not_a_likelihood_has_no_perplexity() -> None:
    def answers(model: Any, batch: Any) -> LossOutput:
        return LossOutput(torch.tensor(3.0), batch.num_samples)

    result = evaluate(
        TrainingModel(whole_model(), answers), validation_batches(pair_samples(), 8, Collator(2)), CPU
    )
    assert result == {"loss": 3 / 8, "target_tokens": 37}


@pytest.mark.parametrize("objective", [ORPO(), DPO()])
def test_evaluate_disables_dropout_and_restores_training_mode(objective: Any) -> None:
    training = TrainingModel(adapted_model(dropout=0.5), objective).train()
    first, second = (
        evaluate(training, validation_batches(pair_samples(), 2, Collator(2)), CPU) for _ in range(2)
    )
    assert first == second
    assert all(module.training for module in training.modules())


def test_evaluate_without_targets_has_no_loss() -> None:
    without_targets = Sample(np.arange(3, dtype=np.int32), np.full(3, IGNORE_INDEX, dtype=np.int32))
    result = evaluate(
        TrainingModel(whole_model(), next_token), validation_batches([without_targets], 1, Collator()), CPU
    )
    assert math.isnan(result["loss"])
    assert result["target_tokens"] == 0
