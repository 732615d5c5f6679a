"""InternLM2 and Baichuan, compared with a second implementation of their published formulas."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mapped_models import (
    HEAD_DIM,
    HEADS,
    KV_HEADS,
    LAYERS,
    baichuan_config,
    baichuan_weights,
    internlm2_config,
    internlm2_weights,
    write_checkpoint,
)
from helpers.models import PROBE_IDS, load_model, logits_of, plain_model, trained_adapter
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import linear, silu, softmax
from transformers import LlamaForCausalLM

from xft.checkpoint.manifest import write_manifest
from xft.checkpoint.model_weights import gather_cpu_state_dict, load_model_weights, make_weights_writer
from xft.errors import ModelError
from xft.export import convert
from xft.models import ATTN_IMPLEMENTATION, NF4, LoRA
from xft.models.checks.attention_checks import check_attention
from xft.models.loading import load_config, load_weights
from xft.models.mapped_families import (
    BAICHUAN_2_VOCAB_SIZE,
    NormHead,
    as_llama,
    is_mapped,
    mapped_model_type,
)

VOCABULARY = 300


@pytest.fixture(scope="module")
def internlm2(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    size = len(byte_tokenizer)
    folder = tmp_path_factory.mktemp("models") / "internlm2"
    return write_checkpoint(folder, internlm2_config(size), internlm2_weights(size), byte_tokenizer)


@pytest.fixture(scope="module")
def baichuan2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "baichuan2"
    size = BAICHUAN_2_VOCAB_SIZE
    weights = baichuan_weights(size)
    buffers = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(4) for layer in range(2)}
    return write_checkpoint(folder, baichuan_config(size), weights | buffers)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def _rotate(x: Tensor, base: float) -> Tensor:
    """Rotate ``(seq, heads, dim)`` by its positions, halves of the dimension as pairs."""
    frequencies = base ** -(torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angles = torch.arange(x.shape[0])[:, None, None] * frequencies
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _attention(q: Tensor, k: Tensor, v: Tensor, base: float) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    q, k = _rotate(q, base), _rotate(k, base).repeat_interleave(groups, dim=1)
    scores = torch.einsum("qhd,khd->hqk", q, k) / HEAD_DIM**0.5
    scores += torch.full_like(scores[0], float("-inf")).triu(1)
    mixed = torch.einsum("hqk,khd->qhd", softmax(scores, dim=-1), v.repeat_interleave(groups, dim=1))
    return mixed.flatten(1)


def _internlm2_reference(w: dict[str, Tensor], ids: Tensor, base: float) -> Tensor:
    x = w["model.tok_embeddings.weight"][ids]
    for layer in range(LAYERS):
        p = f"model.layers.{layer}."
        normed = _rms_norm(x, w[p + "attention_norm.weight"], 1e-5)
        packed = linear(normed, w[p + "attention.wqkv.weight"], w.get(p + "attention.wqkv.bias"))
        heads = packed.view(len(ids), KV_HEADS, HEADS // KV_HEADS + 2, HEAD_DIM)
        q = heads[:, :, :-2].flatten(1, 2)
        mixed = _attention(q, heads[:, :, -2], heads[:, :, -1], base)
        x = x + linear(mixed, w[p + "attention.wo.weight"], w.get(p + "attention.wo.bias"))
        normed = _rms_norm(x, w[p + "ffn_norm.weight"], 1e-5)
        gate, up = (linear(normed, w[f"{p}feed_forward.{name}.weight"]) for name in ("w1", "w3"))
        x = x + linear(silu(gate) * up, w[p + "feed_forward.w2.weight"])
    return linear(_rms_norm(x, w["model.norm.weight"], 1e-5), w["output.weight"])


def _baichuan_reference(w: dict[str, Tensor], ids: Tensor, norm_head: bool) -> Tensor:
    x = w["model.embed_tokens.weight"][ids]
    for layer in range(LAYERS):
        p = f"model.layers.{layer}."
        normed = _rms_norm(x, w[p + "input_layernorm.weight"], 1e-6)
        q, k, v = linear(normed, w[p + "self_attn.W_pack.weight"]).view(len(ids), 3, HEADS, -1).unbind(1)
        x = x + linear(_attention(q, k, v, 10000.0), w[p + "self_attn.o_proj.weight"])
        normed = _rms_norm(x, w[p + "post_attention_layernorm.weight"], 1e-6)
        gate, up = (linear(normed, w[f"{p}mlp.{name}.weight"]) for name in ("gate_proj", "up_proj"))
        x = x + linear(silu(gate) * up, w[p + "mlp.down_proj.weight"])
    head = w["lm_head.weight"]
    head = head / head.norm(dim=1, keepdim=True) if norm_head else head
    return linear(_rms_norm(x, w["model.norm.weight"], 1e-6), head)


def _assert_close(actual: Tensor, expected: Tensor) -> None:
    """Logits of two implementations in fp32, each a sum of some hundred products in two layers."""
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("bias", "max_positions"), [(False, 4096), (True, 4096), (False, 8)])
def test_internlm2_logits_equal_published_formulas(bias: bool, max_positions: int, tmp_path: Path) -> None:
    weights = internlm2_weights(VOCABULARY, bias)
    config = internlm2_config(VOCABULARY, bias=bias, max_position_embeddings=max_positions)
    write_checkpoint(tmp_path, config, weights)
    base, length = 1e6, PROBE_IDS.shape[1]
    if length > max_positions:  # dynamic NTK scaling with factor 2
        base *= (2 * length / max_positions - 1) ** (HEAD_DIM / (HEAD_DIM - 2))
    model = load_weights(str(tmp_path), torch.float32, "sdpa")
    _assert_close(logits_of(model)[0], _internlm2_reference(weights, PROBE_IDS[0], base))


@pytest.mark.parametrize("vocabulary", [VOCABULARY, BAICHUAN_2_VOCAB_SIZE])
def test_baichuan_logits_equal_published_formulas(vocabulary: int, tmp_path: Path) -> None:
    weights = baichuan_weights(vocabulary)
    write_checkpoint(tmp_path, baichuan_config(vocabulary), weights)
    model = load_weights(str(tmp_path), torch.float32, "sdpa")
    is_second = vocabulary == BAICHUAN_2_VOCAB_SIZE
    assert isinstance(model.lm_head, NormHead) == is_second
    _assert_close(logits_of(model)[0], _baichuan_reference(weights, PROBE_IDS[0], is_second))


def test_packed_samples_of_mapped_families_are_isolated(internlm2: Path, baichuan2: Path) -> None:
    for folder in (internlm2, baichuan2):
        config = load_config(str(folder))
        assert is_mapped(config)
        assert check_attention(config, ATTN_IMPLEMENTATION).isolates


def test_trusting_the_folder_still_executes_no_code_of_it(internlm2: Path) -> None:
    model: Any = load_weights(str(internlm2), torch.float32, trust_remote_code=True)
    assert type(model).__module__.startswith("xft.")


@pytest.mark.parametrize("has_bf16", [True, False])
def test_saved_model_has_tensors_and_fields_of_its_family(
    has_bf16: bool, internlm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the dtype of the files, whatever the CPU computes fast."""
    monkeypatch.setattr("xft.models.loading.has_native_bf16", lambda _: has_bf16)
    convert(str(internlm2), str(tmp_path / "out"), subprocess=False)
    written = load_file(tmp_path / "out" / "model.safetensors")
    original = load_file(internlm2 / "model.safetensors")
    assert sorted(written) == sorted(original)
    assert all(torch.equal(written[name], tensor) for name, tensor in original.items())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    given = json.loads((internlm2 / "config.json").read_text())
    fields = ("architectures", "auto_map", "bias", "model_type", "rope_scaling", "rope_theta", "vocab_size")
    assert {name: config[name] for name in fields} == {name: given[name] for name in fields}
    assert {"attention_bias", "rope_parameters"} & set(config) == set()
    code = (tmp_path / "out" / "configuration_internlm2.py").read_bytes()
    assert code == (internlm2 / "configuration_internlm2.py").read_bytes()


def test_saved_baichuan_has_head_before_normalization(baichuan2: Path, tmp_path: Path) -> None:
    model: Any = load_weights(str(baichuan2), torch.float32)
    model.train()(input_ids=PROBE_IDS)
    model.save_pretrained(tmp_path)
    written, original = (
        load_file(tmp_path / "model.safetensors"),
        load_file(baichuan2 / "model.safetensors"),
    )
    kept = {name: tensor for name, tensor in original.items() if "inv_freq" not in name}
    assert sorted(written) == sorted(kept)
    assert all(torch.equal(written[name], tensor) for name, tensor in kept.items())


def test_gradient_of_norm_head_passes_through_the_normalization() -> None:
    torch.manual_seed(0)
    head = NormHead(3, 4).double()
    torch.nn.init.normal_(head.weight)
    states = torch.randn(2, 3, dtype=torch.double)

    def logits(weight: Tensor) -> Tensor:
        return torch.func.functional_call(head, {"weight": weight}, (states,))

    assert torch.autograd.gradcheck(logits, (head.weight.detach().requires_grad_(),))


@pytest.mark.parametrize("name", ["internlm2", "baichuan2"])
def test_as_llama_has_the_same_logits_in_plain_transformers(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = load_weights(str(request.getfixturevalue(name)), torch.float32, "sdpa")
    as_llama(model).save_pretrained(tmp_path)
    plain = plain_model(tmp_path)
    assert type(plain) is LlamaForCausalLM
    assert plain.config.model_type == "llama"
    assert not {"auto_map", "bias"} & set(json.loads((tmp_path / "config.json").read_text()))
    assert torch.equal(logits_of(plain), logits_of(model))


@pytest.mark.parametrize("layout", ["original", "llama"])
def test_merged_adapter_of_mapped_model_has_logits_of_the_adapter(
    internlm2: Path, tmp_path: Path, layout: Any, byte_tokenizer: Any
) -> None:
    adapted = trained_adapter(internlm2)
    expected = logits_of(adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    byte_tokenizer.save_pretrained(tmp_path / "adapter")
    convert(str(tmp_path / "adapter"), str(tmp_path / "out"), merged=True, subprocess=False, layout=layout)
    names = set(load_file(tmp_path / "out" / "model.safetensors"))
    assert ("model.layers.0.attention.wqkv.weight" in names) == (layout == "original")
    _assert_close(logits_of(load_model(tmp_path / "out")), expected)


def test_nf4_of_mapped_model_equals_nf4_of_its_llama_layout(internlm2: Path, tmp_path: Path) -> None:
    as_llama(load_weights(str(internlm2), torch.float32)).save_pretrained(tmp_path)
    mapped, plain = (
        load_weights(str(folder), torch.float32, quantization=NF4()) for folder in (internlm2, tmp_path)
    )
    assert "uint8" in str(mapped.model.layers[0].self_attn.k_proj.weight.dtype)
    assert torch.equal(logits_of(mapped), logits_of(plain))


def test_lora_adapts_the_layers_of_llama(internlm2: Path) -> None:
    model = load_model(internlm2, LoRA(r=2))
    names = {name.rpartition(".lora_A")[0].rpartition(".")[2] for name, _ in model.named_parameters()}
    projections = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert projections <= names
    assert "lm_head" not in names


def test_checkpoint_of_all_weights_is_loaded_into_the_same_model(internlm2: Path, tmp_path: Path) -> None:
    model, other = load_model(internlm2).eval(), load_model(internlm2).eval()
    with torch.no_grad():
        for param in model.parameters():
            param.add_(torch.randn_like(param) * 0.01)
    make_weights_writer(model)(gather_cpu_state_dict(model), tmp_path)
    write_manifest(tmp_path)
    load_model_weights(other, tmp_path)
    assert torch.equal(logits_of(other), logits_of(model))


def test_baichuan_13b_with_alibi_raises_model_error(tmp_path: Path) -> None:
    config = baichuan_config(VOCABULARY, hidden_size=5120)
    del config["max_position_embeddings"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError) as error:
        load_config(str(tmp_path))
    assert "ALiBi" in str(error.value)


def test_added_tokens_of_baichuan2_raise_model_error(baichuan2: Path) -> None:
    model: Any = load_weights(str(baichuan2), torch.float32)
    with pytest.raises(ModelError) as error:
        model.resize_token_embeddings(BAICHUAN_2_VOCAB_SIZE + 1)
    assert error.value.key == "model.additional_special_tokens"


def test_mapped_model_type_of_other_folders_is_none(base: Path, internlm2: Path, tmp_path: Path) -> None:
    assert mapped_model_type(str(internlm2)) == "internlm2"
    assert mapped_model_type(str(base)) is None
    assert mapped_model_type(str(tmp_path)) is None
