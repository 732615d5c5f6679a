"""Log-probabilities of completions against those of transformers, sample by sample."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers.preferences import adapted_model, pair_samples, plain_log_probs, whole_model
from helpers.tolerances import tolerance
from torch import nn
from transformers import AutoModelForCausalLM, Cohere2Config, Gemma2Config, ModernBertDecoderConfig

from xft.data import collate_padded, collate_padding_free
from xft.models import ATTN_IMPLEMENTATION, scoring
from xft.models.scoring import eval_mode, sequence_log_probs
from xft.types import Batch, Sample


def _batches() -> list[Batch]:
    return [collate_padding_free(pair_samples()), collate_padded(pair_samples(), pad_token_id=0)]


@pytest.mark.parametrize("make", [whole_model, adapted_model])
@pytest.mark.parametrize("logits", [300 * 3, 300 * 1000])
def test_sequence_log_probs_equal_transformers_in_both_layouts_and_any_chunk(
    make: Any, logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "MAX_LOGITS", logits)
    model = make()
    expected = plain_log_probs(model, pair_samples())
    expected_grads = torch.autograd.grad(
        expected.sum(), [param for param in model.parameters() if param.requires_grad]
    )
    for batch in _batches():
        scores = sequence_log_probs(model, batch)
        assert scores.counts == [5, 7, 2, 4, 6, 3, 1, 9]
        assert scores.lengths.tolist() == scores.counts
        torch.testing.assert_close(scores.log_probs.double(), expected, rtol=1e-5, atol=1e-5)
        trained = [param for param in model.parameters() if param.requires_grad]
        grads = torch.autograd.grad(scores.log_probs.sum(), trained)
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-4)


def test_sequence_log_probs_depend_on_labels_only() -> None:
    """Tokens without a label may have any id, including those of completions and of padding."""
    model = whole_model()
    samples = pair_samples()
    before = sequence_log_probs(model, collate_padding_free(samples))
    changed = [
        Sample(sample.input_ids, np.where(np.arange(len(sample)) == len(sample) - 1, sample.labels, -100))
        for sample in samples
    ]
    after = sequence_log_probs(model, collate_padding_free(changed))
    assert after.counts == [1] * 8
    last = [plain_log_probs(model, [sample]) for sample in changed]
    torch.testing.assert_close(after.log_probs.double(), torch.cat(last), rtol=1e-5, atol=1e-5)
    assert bool((after.log_probs > before.log_probs - tolerance(torch.float32, 97)).all())


def test_sequence_log_probs_of_packed_sample_are_independent_of_others() -> None:
    model = whole_model()
    samples = pair_samples()
    alone = sequence_log_probs(model, collate_padding_free(samples[2:3])).log_probs
    together = sequence_log_probs(model, collate_padding_free(samples)).log_probs[2:3]
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    ("config", "attention"),
    [
        (Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=2.0), "eager"),
        (Cohere2Config(**SMALL, head_dim=8, logit_scale=0.25), ATTN_IMPLEMENTATION),
    ],
)
def test_sequence_log_probs_of_capped_or_scaled_logits_equal_transformers(
    config: Any, attention: str
) -> None:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    for param in model.parameters():
        param.data.mul_(4)
    expected = plain_log_probs(model, pair_samples())
    got = sequence_log_probs(model, collate_padded(pair_samples(), pad_token_id=0)).log_probs
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


def test_sequence_log_probs_without_targets_are_zero_with_zero_gradient() -> None:
    model = whole_model()
    batch = collate_padding_free(pair_samples()[:2])
    batch.labels.fill_(-100)
    scores = sequence_log_probs(model, batch)
    assert scores.counts == [0, 0]
    assert scores.log_probs.tolist() == [0.0, 0.0]
    scores.log_probs.sum().backward()
    for name, param in model.named_parameters():
        assert param.grad is not None, name
        assert float(param.grad.abs().sum()) == 0.0, name


@pytest.mark.parametrize(
    ("softcap", "ids", "linear"), [(30.0, [3, 4], False), (None, [3, 4], True), (30.0, [0], False)]
)
def test_cap_is_seen_in_small_logits_of_bf16_and_behind_an_embedding_of_zero(
    softcap: float | None, ids: list[int], linear: bool
) -> None:
    torch.manual_seed(0)
    config = Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=softcap, pad_token_id=0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").bfloat16()
    assert not model.get_input_embeddings().weight[0].any()
    assert scoring.has_linear_head(model, torch.tensor([ids])) is linear


def test_eval_mode_restores_training_flags() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    model[1].eval()
    before = [module.training for module in model.modules()]
    with eval_mode(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()


def test_model_that_calls_its_head_decoder_computes_all_logits() -> None:
    config = ModernBertDecoderConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
    )
    model = AutoModelForCausalLM.from_config(config)
    assert not scoring.has_linear_head(model, torch.tensor([[5, 6]]))
