"""KTO on a tiny model: against formulas on what transformers gives alone, mismatched by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers.preferences import adapted_model, judged_samples, plain_log_probs, sample, texts, whole_model

from xft.data import Collator, collate_padded, collate_padding_free
from xft.errors import ConfigError
from xft.models.reference import FrozenReference
from xft.objectives import KTO
from xft.objectives.kto import mismatch
from xft.types import IGNORE_INDEX, LossOutput, Sample

B = 0.3


def _ratios(model: Any, samples: list[Sample]) -> torch.Tensor:
    with torch.no_grad():
        after = plain_log_probs(model, samples)
        with model.disable_adapter():
            return after - plain_log_probs(model, samples)


def _mismatched() -> list[Sample]:
    """Prompt i with the answer before it; the first has the last one's."""
    answers = [
        chosen if number % 2 == 0 else rejected for number, (_, chosen, rejected) in enumerate(texts())
    ]
    return [sample(prompt, answers[number - 1]) for number, (prompt, _, _) in enumerate(texts())]


@pytest.mark.parametrize("padded", [False, True])
def test_mismatch_combines_prompt_with_completion_of_its_neighbor(padded: bool) -> None:
    batch = collate_padded(judged_samples(), 5) if padded else collate_padding_free(judged_samples())
    mixed = mismatch(batch)
    assert mixed is not None
    ids, labels = mixed.split(mixed.input_ids), mixed.split(mixed.labels)
    assert [sample.tolist() for sample in ids] == [sample.input_ids.tolist() for sample in _mismatched()]
    assert [sample.tolist() for sample in labels] == [sample.labels.tolist() for sample in _mismatched()]
    assert (mixed.attention_mask is not None) == padded


def test_mismatch_keeps_labels_within_completions() -> None:
    """An answer of two turns: [7, 8] trained, [1, 2] the user's, [9] trained."""
    X = IGNORE_INDEX
    first = Sample(_array([4, 5, 7, 8, 1, 2, 9]), _array([X, X, 7, 8, X, X, 9]), desirable=True)
    second = Sample(_array([6, 3]), _array([X, 3]), desirable=False)
    mixed = mismatch(collate_padding_free([first, second]))
    assert mixed is not None
    assert mixed.input_ids.tolist() == [[4, 5, 3, 6, 7, 8, 1, 2, 9]]
    assert mixed.labels.tolist() == [[X, X, 3, X, 7, 8, X, X, 9]]


def _array(values: list[int]) -> Any:
    return np.asarray(values, dtype=np.int32)


def _apart(swapped: bool) -> tuple[Any, FrozenReference]:
    """A model and its reference. Swapping them turns all log-ratios around, and so the sign of their
    mean."""
    models = [whole_model(seed=0), whole_model(seed=5)]
    return (models[1], FrozenReference(models[0])) if swapped else (models[0], FrozenReference(models[1]))


def _between(model: Any, reference: FrozenReference, samples: list[Sample]) -> torch.Tensor:
    with torch.no_grad():
        return plain_log_probs(model, samples) - plain_log_probs(reference.model, samples)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("kl", ["mismatched", "zero"])
def test_kto_loss_equals_formula(padded: bool, swapped: bool, kl: Any) -> None:
    """One way the mean of the mismatched log-ratios is above zero, the other way below."""
    model, reference = _apart(swapped)
    ratios = _between(model, reference, judged_samples())
    estimate = _between(model, reference, _mismatched()).mean()
    assert abs(float(estimate)) > 0.1
    base = estimate.clamp(min=0) if kl == "mismatched" else torch.zeros(())
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])
    weights = torch.tensor([2.0, 0.5, 2.0, 0.5])
    expected = (weights * (1 - torch.sigmoid(signs * B * (ratios - base)))).sum()
    batch = collate_padded(judged_samples(), 0) if padded else collate_padding_free(judged_samples())
    objective = KTO(beta=B, desirable_weight=2.0, undesirable_weight=0.5, kl=kl)
    output = objective.loss_with_reference(reference, model, batch)
    assert float(output.loss_sum.detach()) == pytest.approx(float(expected), rel=1e-4)
    assert output.num_targets == objective.count_targets(batch) == 4
    if kl == "mismatched":
        assert _mean(output, "kl") == pytest.approx(float(base), rel=1e-3, abs=1e-4)
    assert _mean(output, "kl/estimated") == (kl == "mismatched")


def _mean(output: LossOutput, name: str) -> float:
    return float(output.metrics[name]) / output.metric_denominators.get(name, output.num_targets)


def test_kto_metrics_equal_values_by_hand() -> None:
    model = adapted_model()
    samples = judged_samples()
    ratios = _ratios(model, samples)
    log_probs = plain_log_probs(model, samples).detach()
    output = KTO(beta=B, kl="zero")(model, collate_padding_free(samples))
    expected = {
        "rewards/chosen": B * ratios[::2].mean(),
        "rewards/rejected": B * ratios[1::2].mean(),
        "logps/chosen": log_probs[::2].mean(),
        "logps/rejected": log_probs[1::2].mean(),
        "length/chosen": (5 + 6) / 2,
        "length/rejected": (4 + 9) / 2,
        "nll_loss": -log_probs[::2].sum() / 11,
        "rewards/accuracies": ((ratios > 0) == torch.tensor([True, False, True, False])).double().mean(),
    }
    for name, value in expected.items():
        assert _mean(output, name) == pytest.approx(float(value), rel=1e-3), name


def test_kto_of_single_completion_has_zero_baseline() -> None:
    model = adapted_model()
    output = KTO(beta=B)(model, collate_padding_free(judged_samples()[:1]))
    ratio = _ratios(model, judged_samples()[:1])
    assert float(output.loss_sum.detach()) == pytest.approx(float(1 - torch.sigmoid(B * ratio)), rel=1e-4)
    assert output.metric_denominators["kl"] == 0
    assert float(output.metrics["kl/estimated"]) == 0.0
    # No answer is of the other kind, and none is counted.
    assert output.metric_denominators["rewards/rejected"] == 0
    assert output.metric_denominators["rewards/chosen"] == 1


def test_kto_calls_sharded_model_equally_often_with_one_and_with_more_completions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each call gathers parameters: a rank that makes fewer calls would leave the others waiting."""
    monkeypatch.setattr("xft.objectives.kto.is_sharded", lambda param: True)
    counts = []
    for samples in (judged_samples(), judged_samples()[:1]):
        model, calls = adapted_model(), []
        model.get_input_embeddings().register_forward_hook(lambda *_, calls=calls: calls.append(1))
        output = KTO()(model, collate_padding_free(samples))
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0
    assert output.metric_denominators["kl"] == 0


def test_kto_of_dummy_batch_has_zero_loss_and_all_metrics() -> None:
    model = adapted_model()
    batch = Collator().collate(judged_samples(), [])
    full = KTO()(model, collate_padding_free(judged_samples()))
    empty = KTO()(model, batch)
    assert KTO().count_targets(batch) == empty.num_targets == 0
    assert set(empty.metrics) == set(full.metrics)
    assert set(empty.metric_denominators) == set(full.metric_denominators)
    assert float(empty.loss_sum.detach()) == 0.0
    assert not any(float(value) for value in [*empty.metrics.values(), *empty.metric_denominators.values()])
    model.zero_grad()
    empty.loss_sum.backward()
    assert all(param.grad is not None for param in model.parameters() if param.requires_grad)


def test_kto_without_labels_raises_value_error() -> None:
    with pytest.raises(ValueError, match="unpaired_preference"):
        KTO()(adapted_model(), collate_padding_free(_mismatched()))


def test_kto_precompute_with_mismatched_completions_raises_config_error() -> None:
    with pytest.raises(ConfigError) as error:
        KTO(precompute_ref_log_probs=True)
    assert (error.value.key, error.value.got) == ("objective.precompute_ref_log_probs", True)
    assert "kl='zero'" in error.value.fix


def test_kto_with_unknown_kl_raises_config_error() -> None:
    with pytest.raises(ConfigError) as error:
        KTO(kl="batch")  # type: ignore[arg-type]
    assert (error.value.key, error.value.got) == ("objective.kl", "batch")
