"""The divergence from a teacher: all layouts agree with the logits of both models."""

import pytest
import torch
from helpers.preferences import adapted_model, pair_samples, whole_model

from xft.data import Collator
from xft.losses import generalized_jsd
from xft.models import distillation
from xft.models.distillation import target_divergence
from xft.models.scoring import target_logits


@pytest.mark.parametrize("collator", [Collator(), Collator(layout="padded", pad_token_id=0)])
def test_divergence_is_that_of_the_logits_of_both_models(
    collator: Collator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, teacher = adapted_model(), whole_model(seed=3).requires_grad_(False)
    samples = pair_samples()
    batch = collator.collate(samples, range(len(samples)))
    expected = generalized_jsd(
        target_logits(model, batch)[0], target_logits(teacher, batch)[0], 0.4, temperature=0.9
    )
    for max_logits in (10**9, 1000):  # all targets together, and in chunks
        monkeypatch.setattr(distillation, "MAX_LOGITS", max_logits)
        got = target_divergence(model, teacher, batch, 0.4, 0.9)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert got.sum() > 0.1
    got.sum().backward()
    assert all(param.grad is None for param in teacher.parameters())
    assert any(param.grad is not None and param.grad.any() for param in model.parameters())
