"""The loss and the gradients of a step against plain ``transformers`` and ``peft``."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.models import load_model
from helpers.tiny import save_tiny, tiny_config
from helpers.tolerances import TINY_MODEL_FP32, assert_close_sums
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from xft.data import collate_padded, collate_padding_free
from xft.models import ATTN_IMPLEMENTATION, NF4, LoRA, TrainingModel
from xft.objectives import next_token
from xft.types import IGNORE_INDEX, Sample

LENGTHS = [9, 4, 17, 6, 11, 5]


def _samples() -> list[Sample]:
    generator = np.random.default_rng(1)
    out = []
    for length in LENGTHS:
        ids = generator.integers(3, 90, length).astype(np.int32)
        labels = ids.copy()
        labels[: length // 3] = IGNORE_INDEX
        out.append(Sample(ids, labels))
    return out


def _peft_model(family: str, attention: str) -> Any:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(tiny_config(family, 97), attn_implementation=attention)
    model = get_peft_model(
        base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    torch.manual_seed(1)
    for name, each in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the gradient of A
            torch.nn.init.normal_(each, std=0.1)
    return model


def _gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def _reference(family: str) -> tuple[float, dict[str, torch.Tensor]]:
    """The mean loss of transformers over all trained tokens of one padded batch."""
    model = _peft_model(family, "eager")
    batch = collate_padded(_samples(), pad_token_id=0)
    loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
    loss.backward()
    return float(loss), _gradients(model)


@pytest.mark.parametrize("family", ["llama", "qwen3", "internlm3"])
@pytest.mark.parametrize("groups", [[6], [1] * 6, [4, 2], [2, 1, 3]])
def test_any_window_gives_the_step_of_plain_transformers_and_peft(family: str, groups: list[int]) -> None:
    expected_loss, expected = _reference(family)
    samples = _samples()
    model = _peft_model(family, ATTN_IMPLEMENTATION)
    training = TrainingModel(model, next_token)
    targets = sum(each.num_targets for each in samples)
    loss = 0.0
    start = 0
    for size in groups:
        output = training(collate_padding_free(samples[start : start + size]))
        (output.loss_sum / targets).backward()
        loss += float(output.loss_sum) / targets
        start += size
    got = _gradients(model)
    assert loss == pytest.approx(expected_loss, rel=TINY_MODEL_FP32)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close_sums(got[name], gradient, TINY_MODEL_FP32, name)


def test_gradient_checkpointing_changes_nothing() -> None:
    samples = _samples()
    found = []
    for checkpointing in (False, True):
        model = _peft_model("llama", ATTN_IMPLEMENTATION)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
        TrainingModel(model, next_token)(collate_padding_free(samples)).loss_sum.backward()
        found.append(_gradients(model))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert_close_sums(found[1][name], gradient, TINY_MODEL_FP32, name)


def test_accuracy_counts_the_tokens_that_are_ranked_first() -> None:
    samples = _samples()
    model = _peft_model("llama", ATTN_IMPLEMENTATION)
    output = next_token(model, collate_padding_free(samples))
    correct = 0
    for sample in samples:
        ids = torch.from_numpy(sample.input_ids.astype(np.int64))[None]
        with torch.no_grad():
            guess = model(input_ids=ids).logits[0, :-1].argmax(-1)
        labels = torch.from_numpy(sample.labels.astype(np.int64))[1:]
        correct += int((guess == labels).sum())
    assert int(output.metrics["accuracy"]) == correct


def _step_of(model: Any, batch_of: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of plain transformers, or of ours, in training mode."""
    model.train()
    loss = batch_of(model)
    loss.backward()
    return float(loss), _gradients(model)


def _plain(model: Any) -> Any:
    batch = collate_padded(_samples(), pad_token_id=0)
    return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss


def _ours(model: Any) -> Any:
    targets = sum(each.num_targets for each in _samples())
    return TrainingModel(model, next_token)(collate_padding_free(_samples())).loss_sum / targets


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), "llama", byte_tokenizer)


def test_the_first_step_of_a_whole_model_is_that_of_plain_transformers(saved: Path) -> None:
    """fp32: every weight gets its gradient, the head that is tied to the embeddings too."""
    plain = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32, attn_implementation="eager")
    expected_loss, expected = _step_of(plain, _plain)
    loss, got = _step_of(load_model(saved), _ours)
    assert loss == pytest.approx(expected_loss, rel=TINY_MODEL_FP32)
    assert got.keys() == expected.keys()
    assert len(got) == len(list(plain.parameters()))
    for name, gradient in expected.items():
        assert_close_sums(got[name], gradient, TINY_MODEL_FP32, name)


def test_the_first_step_of_qlora_is_that_of_plain_bitsandbytes_and_peft(saved: Path) -> None:
    """NF4 with double quantisation on the CPU, products in fp32. Both dequantise the same 4-bit numbers,
    so what is left is the order of the sums, as without quantisation; the loss of the base that is not
    quantised is farther away than that by far."""
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    plain: Any = AutoModelForCausalLM.from_pretrained(
        saved,
        dtype=torch.float32,
        attn_implementation="eager",
        quantization_config=quantised,
        device_map={"": "cpu"},
    )
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    plain = get_peft_model(plain, lora)
    ours = load_model(saved, adapter=LoRA(r=4, lora_alpha=8), quantization=NF4())
    torch.manual_seed(1)
    with torch.no_grad():
        theirs = dict(plain.named_parameters())
        for name, each in ours.named_parameters():
            if each.requires_grad:
                each.copy_(theirs[name].normal_(std=0.1))
    expected_loss, expected = _step_of(plain, _plain)
    loss, got = _step_of(ours, _ours)
    assert loss == pytest.approx(expected_loss, rel=TINY_MODEL_FP32)
    assert got.keys() == expected.keys() == {name for name in theirs if "lora_" in name}
    for name, gradient in expected.items():
        assert_close_sums(got[name], gradient, TINY_MODEL_FP32, name)
    with ours.disable_adapter(), torch.no_grad():
        base = float(_ours(ours))
        whole = float(_ours(load_model(saved)))
    assert abs(base - whole) > 1e-4 * whole
