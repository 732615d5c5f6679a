"""Fused layers are peft's in all but the way that a training step is computed."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model, load_trained
from helpers.tiny import save_tiny
from helpers.tolerances import TINY_MODEL_FP32, relative_distance
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as PlainLinear
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from xft.data import collate_padding_free
from xft.models import NF4, LoRA, TrainingModel
from xft.models.adapters.fused_lora import FusedLinear
from xft.models.adapters.fused_lora_4bit import FusedLinear4bit
from xft.models.scoring import eval_mode, sequence_log_probs
from xft.objectives import next_token
from xft.types import Sample


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), "llama", byte_tokenizer)


def _batch(lengths: Sequence[int] = (9, 30, 4, 21)) -> Any:
    """64 tokens, behind which kernels want no others; those would draw a dropout of their own."""
    generator = torch.Generator().manual_seed(2)
    samples = []
    for length in lengths:
        ids = torch.randint(3, 90, (length,), generator=generator).int().numpy()
        labels = ids.copy()
        labels[: length // 3] = -100
        samples.append(Sample(ids, labels))
    return collate_padding_free(samples)


def _step(model: Any, batch: Any = None) -> tuple[float, dict[str, Tensor]]:
    model.train()
    model.zero_grad()
    torch.manual_seed(3)  # of the dropout
    output = TrainingModel(model, next_token)(_batch() if batch is None else batch)
    (output.loss_sum / output.num_targets).backward()
    gradients = {
        name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None
    }
    return float(output.loss_sum.detach()), gradients


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({}, TINY_MODEL_FP32),
        ({"adapter": LoRA(r=4, lora_alpha=4, lora_dropout=0.3)}, TINY_MODEL_FP32),
        ({"quantization": NF4()}, TINY_MODEL_FP32),
        ({"dtype": "bfloat16"}, 2e-2),
        ({"dtype": "bfloat16", "quantization": NF4()}, 2e-2),
        ({"adapter": None}, TINY_MODEL_FP32),
        ({"gradient_checkpointing": True}, TINY_MODEL_FP32),
    ],
    ids=["lora", "dropout", "nf4", "bf16", "bf16-nf4", "full", "checkpointing"],
)
def test_fused_step_equals_plain_step(saved: Path, options: dict[str, Any], bound: float) -> None:
    """Gradients as a share of their norm. fp32: another order of sums. bf16: either way each of a dozen
    products in a row is rounded to 8 bits, at other places; the gradient of the plain step is as far from
    one in fp32 (the test below)."""
    fused, plain = load_trained(saved, **options), load_trained(saved, fused_kernels=False, **options)
    loss, gradients = _step(fused)
    expected_loss, expected = _step(plain)
    assert loss == pytest.approx(expected_loss, rel=TINY_MODEL_FP32 if bound == TINY_MODEL_FP32 else 2e-3)
    assert 0 < relative_distance(gradients, expected) < bound
    kinds = {type(each) for each in fused.modules()}
    wanted = FusedLinear4bit if "quantization" in options else FusedLinear
    assert (wanted in kinds) == (options.get("adapter", 1) is not None)
    assert not {FusedLinear, FusedLinear4bit} & {type(each) for each in plain.modules()}


def test_fused_steps_of_similar_lengths_have_products_of_equal_shapes(saved: Path) -> None:
    """Of the layers, of attention in blocks and behind the head; lengths differ by less than the multiples do."""
    model = load_trained(saved, dtype="bfloat16")
    shapes: set[Any] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if any(each in str(func) for each in ("mm", "linear")):
                given = tuple(tuple(each.shape) for each in args if isinstance(each, Tensor))
                shapes.add((str(func), given))
            return func(*args, **(kwargs or {}))

    _step(model)  # whether its logits are the head's is asked once
    found = []
    for lengths in ((150, 40, 90, 20), (157, 37, 83, 22)):
        shapes.clear()
        with Watch():
            _step(model, _batch(lengths))
        found.append(set(shapes))
    assert len(found[0]) > 20
    assert found[0] == found[1]


def test_fused_bf16_step_is_as_close_to_fp32_as_plain_step(saved: Path) -> None:
    """The base is rounded to bf16 first, so that what is compared is how a step is computed."""
    _, exact = _step(load_trained(saved, fused_kernels=False).bfloat16().float())
    found = {}
    for kernels in (True, False):
        model = load_trained(saved, dtype="bfloat16", fused_kernels=kernels)
        for name, each in model.named_parameters():
            if "lora_" in name:
                each.data = each.data.bfloat16().float()
        found[kernels] = relative_distance(_step(model)[1], exact)
    assert found[True] < 1.3 * found[False]
    assert found[False] > 1e-3  # rounding is seen


def test_fused_model_has_names_and_files_of_peft(saved: Path, tmp_path: Path) -> None:
    model = load_trained(saved)
    base = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
    lora = LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    plain = get_peft_model(base, lora)
    assert {name: each.shape for name, each in model.state_dict().items()} == {
        name: each.shape for name, each in plain.state_dict().items()
    }
    model.save_pretrained(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(
        saved, dtype=torch.float32, attn_implementation=model.config._attn_implementation
    )
    reloaded = PeftModel.from_pretrained(base, tmp_path).eval()
    assert {type(each) for each in reloaded.modules()} >= {PlainLinear}
    ids = torch.arange(5, 20)[None]
    with torch.no_grad():
        live = model.eval()(input_ids=ids).logits
        assert torch.equal(live, reloaded(input_ids=ids).logits)
        merged = model.merge_and_unload(safe_merge=True)(input_ids=ids).logits
    torch.testing.assert_close(merged, live, rtol=0, atol=1e-5)


def test_fused_layer_in_evaluation_equals_peft_bit_for_bit(saved: Path) -> None:
    """In bf16, where the two ways differ in the last bits."""
    fused, plain = (
        load_trained(saved, dtype="bfloat16"),
        load_trained(saved, dtype="bfloat16", fused_kernels=False),
    )
    ids = torch.arange(5, 40)[None]
    with torch.no_grad():
        assert torch.equal(fused.eval()(input_ids=ids).logits, plain.eval()(input_ids=ids).logits)
        assert not torch.equal(fused.train()(input_ids=ids).logits, plain.train()(input_ids=ids).logits)


def test_fused_layer_with_disabled_adapter_equals_base(saved: Path) -> None:
    model = load_trained(saved).train()
    base = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
    ids = torch.arange(5, 20)[None]
    with torch.no_grad(), model.disable_adapter():
        torch.testing.assert_close(model(input_ids=ids).logits, base(input_ids=ids).logits)


def test_fused_layer_with_two_adapters_equals_peft(saved: Path) -> None:
    """Two adapters at once are added up by peft; the layers know only one."""
    fused, plain = load_trained(saved), load_trained(saved, fused_kernels=False)
    for model in (fused, plain):
        torch.manual_seed(4)
        model.add_adapter("other", LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
        model.base_model.set_adapter(["default", "other"])
    loss, gradients = _step(fused)
    expected_loss, expected = _step(plain)
    assert any("other" in name for name in gradients)
    assert loss == pytest.approx(expected_loss, rel=TINY_MODEL_FP32)
    assert relative_distance(gradients, expected) < TINY_MODEL_FP32


@pytest.mark.parametrize("fused_kernels", [True, False])
def test_disabled_adapter_and_frozen_copy_equal_policy_bit_for_bit_at_the_start(
    saved: Path, fused_kernels: bool
) -> None:
    """In bf16 and before the first step, a copy and the adapter switched off give the policy's bits: a DPO
    margin of zero is zero, whatever computes it."""
    model = load_model(saved, LoRA(r=4), dtype="bfloat16", fused_kernels=fused_kernels).train()
    policy = sequence_log_probs(model, _batch()).log_probs.detach()
    with eval_mode(model), model.disable_adapter():
        off = sequence_log_probs(model, _batch()).log_probs
    frozen = copy.deepcopy(model).eval()
    with torch.no_grad():
        copied = sequence_log_probs(frozen, _batch()).log_probs
    assert torch.equal(policy, off)
    assert torch.equal(policy, copied)


def test_dora_is_left_to_peft_and_rslora_scales_by_root_of_r(saved: Path) -> None:
    """DoRA is more than ``W + s B A`` and is left to peft; the scaling of rsLoRA is alpha over the root of r."""
    dora, plain = (
        load_trained(saved, adapter=LoRA(r=4, lora_alpha=4, use_dora=True), fused_kernels=fused)
        for fused in (True, False)
    )
    loss, gradients = _step(dora)
    assert any("magnitude" in name for name in gradients)
    assert loss == _step(plain)[0]
    assert not any(isinstance(each, FusedLinear) for each in dora.modules())
    scaled = load_trained(saved, adapter=LoRA(r=4, lora_alpha=4, use_rslora=True))
    assert {each.scaling["default"] for each in scaled.modules() if isinstance(each, FusedLinear)} == {2.0}
    loss, gradients = _step(scaled)
    expected_loss, expected = _step(load_trained(saved, adapter=LoRA(r=4, lora_alpha=8)))
    assert loss == expected_loss
    assert all(torch.equal(gradients[name], each) for name, each in expected.items())
