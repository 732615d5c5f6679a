from collections.abc import Iterator

import pytest
from helpers.preferences import adapted_model, judged_samples, pair_samples, whole_model
from helpers.strategies import FakeStrategy
from torch import nn

from xft.data import Collator, collate_padding_free
from xft.errors import ConfigError
from xft.models import LoadedModel
from xft.models.reference import FrozenReference, PrecomputedReference, ReferenceContext
from xft.objectives import DPO, KTO, ObjectiveWithReference, next_token
from xft.types import Batch, Sample


def _context(model: nn.Module, samples: list[Sample], samples_per_example: int) -> ReferenceContext:
    def batches() -> Iterator[Batch]:
        return Collator(samples_per_example).iter_batches(samples, max_tokens=40)

    return ReferenceContext(LoadedModel(model, None), FakeStrategy(), batches)  # type: ignore[arg-type]


def test_bind_reference_keeps_the_targets_of_the_objective() -> None:
    bound = DPO().bind_reference(_context(adapted_model(), pair_samples(), 2))
    assert isinstance(bound, ObjectiveWithReference)
    assert bound.count_targets(collate_padding_free(pair_samples())) == 4


def test_bind_reference_of_objective_without_reference_returns_it_unchanged() -> None:
    assert next_token.bind_reference(_context(adapted_model(), pair_samples(), 2)) is next_token


def test_unbound_objective_compares_with_the_disabled_adapter() -> None:
    model, batch = adapted_model(), collate_padding_free(pair_samples())
    bound = DPO().bind_reference(_context(model, pair_samples(), 2))
    assert float(DPO()(model, batch).loss_sum) == float(bound(model, batch).loss_sum)
    with pytest.raises(ConfigError) as error:
        DPO()(whole_model(), batch)
    assert (error.value.key, error.value.got) == ("objective.reference", "disable_adapter")


def test_bound_objective_compares_with_its_own_reference() -> None:
    """Against itself as reference, no margin differs from zero."""
    model, batch = whole_model(), collate_padding_free(pair_samples())
    output = ObjectiveWithReference(DPO(), FrozenReference(model))(model, batch)
    assert float(output.metrics["rewards/margins"]) == 0.0
    other = ObjectiveWithReference(DPO(), FrozenReference(whole_model(seed=1)))(model, batch)
    assert float(other.metrics["rewards/margins"]) != 0.0


def test_precomputed_log_probs_give_the_loss_of_the_live_reference() -> None:
    model, batch = adapted_model(), collate_padding_free(judged_samples())
    objective = KTO(kl="zero", precompute_ref_log_probs=True)
    bound = objective.bind_reference(_context(model, judged_samples(), 1))
    assert isinstance(bound.reference, PrecomputedReference)
    live = KTO(kl="zero")(model, batch)
    assert float(bound(model, batch).loss_sum) == pytest.approx(float(live.loss_sum), rel=1e-5)
