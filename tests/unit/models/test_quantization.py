"""A base in 4 bits stays what it is, whatever is done with the model."""

from pathlib import Path

import torch
from bitsandbytes.functional import dequantize_4bit
from helpers.tiny import tiny_config
from transformers import AutoModelForCausalLM

from xft.models import NF4, CausalLMConfig
from xft.models.loading import load_weights


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: dequantize_4bit(param.data, param.quant_state).clone()
        for name, param in model.named_parameters()
        if getattr(param, "quant_state", None) is not None
    }


def test_evaluation_leaves_4bit_weights_unchanged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_config("llama", 97)).save_pretrained(tmp_path)
    model = load_weights(str(tmp_path), torch.bfloat16, quantization=NF4(), device=torch.device("cpu"))
    before = _weights(model)
    assert len(before) == 14  # seven linear layers in each of two blocks
    with torch.inference_mode():
        model.eval()(input_ids=torch.arange(5, 20)[None])
    after = _weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_base_keeps_bf16_next_to_an_fp32_adapter(tmp_path: Path) -> None:
    from xft.models import LoRA
    from xft.types import Tokenizer

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_config("llama", 97)).to(torch.bfloat16).save_pretrained(tmp_path)

    class NoTokens(list):  # type: ignore[type-arg]
        pass

    tokenizer: Tokenizer = NoTokens(range(97))  # type: ignore[assignment]
    spec = CausalLMConfig(path=str(tmp_path), dtype="bfloat16", gradient_checkpointing=True)
    loaded = spec.load(tokenizer, torch.device("cpu"), LoRA(r=2))
    types = {"lora" in name: set[torch.dtype]() for name, _ in loaded.model.named_parameters()}
    for name, param in loaded.model.named_parameters():
        types["lora" in name].add(param.dtype)
    assert types == {False: {torch.bfloat16}, True: {torch.float32}}
