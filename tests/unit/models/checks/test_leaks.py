"""Modules that mix samples of a flat batch."""

import pytest
import torch
from transformers import Lfm2Config, Lfm2ForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from xft.models.attention import ATTN_IMPLEMENTATION, unused_mask
from xft.models.checks import leaks
from xft.models.checks.leaks import leaking_modules
from xft.models.segments import SegmentedClass, segment_modules

SMALL = {
    "vocab_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "hidden_size": 16, "intermediate_size": 16,
    "num_hidden_layers": 2, "attn_implementation": ATTN_IMPLEMENTATION,
}  # fmt: skip


def _leaks(model: PreTrainedModel) -> list[SegmentedClass]:
    ids = torch.arange(10)[None]
    positions = torch.tensor([[*range(4), *range(6)]])
    mask = unused_mask(ids.device)
    arguments = {"input_ids": ids, "position_ids": positions, "attention_mask": mask, "seq_lens": [4, 6]}
    with torch.inference_mode():
        return leaking_modules(model.double().eval(), arguments)


def test_attention_that_keeps_samples_apart_does_not_leak() -> None:
    assert _leaks(LlamaForCausalLM(LlamaConfig(**SMALL))) == []  # type: ignore[arg-type]


def test_convolution_leaks_until_it_is_segmented() -> None:
    kinds = ["conv", "full_attention"]
    model = Lfm2ForCausalLM(Lfm2Config(layer_types=kinds, **SMALL))  # type: ignore[arg-type]
    leaking = _leaks(model)
    assert leaking == [SegmentedClass("Lfm2ShortConv", batched=True)]
    segment_modules(model, leaking)
    assert _leaks(model) == []


@pytest.mark.parametrize("name", ["_compare", "_Comparison"])
def test_error_of_the_comparison_is_no_error_of_the_model(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(leaks, name, fail)
    with pytest.raises(ZeroDivisionError):
        _leaks(LlamaForCausalLM(LlamaConfig(**SMALL)))  # type: ignore[arg-type]
