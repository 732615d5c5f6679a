"""A model as one GGUF file, which llama.cpp, Ollama and others run.

The format is ggml's (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), written with the
library ``gguf``. Llama's rotary embedding pairs neighbouring rows there, and rows half a head apart in
transformers, so the rows of its queries and keys change places.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xft.errors import CheckpointError, ConfigError
from xft.export.gguf_vocab import Vocabulary, read_vocabulary
from xft.export.merge_check import LIMITS, Limits, compare_merged
from xft.export.verify import Comparison
from xft.export.verify_worker import logits_of
from xft.models.generation import stop_ids
from xft.models.gguf_loading import load_gguf
from xft.models.reward_head import is_reward_model
from xft.templates import BoundTemplate
from xft.types import Tokenizer

FAMILIES = {"llama": "llama", "mistral": "llama", "internlm3": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""The architectures that are written, by transformers' name, and what GGUF calls them."""
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "q8_0": torch.float32}
"""The type that the weights have before they are written."""
FILE = "model.gguf"
Q8_0 = Limits(3e-2, 0.85)
"""Weights in blocks of 32, with 8 bits each and a common scale of 16. Measured on SmolLM2-135M, the KL is
3e-3 nats, and the likeliest token is another one at 3 % of the positions; as in ``merged``, the limits are
ten times that."""
BLOCK = 32


def check_family(model: Any, tokenizer: Tokenizer, kind: str) -> None:
    """Refuse what would be written but not run as it was trained.

    Args:
        model: a whole one, or an adapter on its base.
        tokenizer: the model's.
        kind: of ``TYPES``.

    Raises:
        ConfigError: such a model cannot be written as GGUF here.
    """
    if find_spec("gguf") is None:
        raise ConfigError("--gguf: the library is not installed: pip install -r requirements/gguf.txt")
    if kind not in TYPES:
        raise ConfigError(f"--gguf: got {kind!r}, expected one of {', '.join(TYPES)}")
    if is_reward_model(model):
        raise ConfigError("--gguf: a reward model is not written: readers of GGUF know no scalar head")
    config = model.config
    if config.model_type not in FAMILIES:
        raise ConfigError(
            f"--gguf: models of the family {config.model_type!r} are not written; known are {', '.join(FAMILIES)}"
        )
    rope = str(_rope(config).get("rope_type", "default"))
    if rope not in ("default", "dynamic"):
        raise ConfigError(
            f"--gguf: a rotary embedding scaled by {rope!r} is not written, since no reader checks it"
        )
    biased = ("attention_bias", "mlp_bias", "bias", "qkv_bias")
    if FAMILIES[config.model_type] == "llama" and any(getattr(config, each, False) for each in biased):
        raise ConfigError("--gguf: a Llama with biases is not written, since no reader checks it")
    if getattr(config, "use_sliding_window", False):
        raise ConfigError(
            "--gguf: a sliding window is not written, since readers of this family pass over it"
        )
    read_vocabulary(tokenizer, model.get_input_embeddings().weight.shape[0])


def write_gguf(
    model: Any, tokenizer: Tokenizer, template: BoundTemplate | None, kind: str, file: Path, name: str
) -> None:
    """Write a whole model into a file.

    Args:
        model: of a family that ``check_family`` lets pass, on the CPU.
        tokenizer: the model's.
        template: the chat template; ``None`` writes none.
        kind: of ``TYPES``; norms and biases are always fp32.
        file: where.
        name: of the model, which the file says.
    """
    from gguf import GGUFWriter, LlamaFileType

    architecture = FAMILIES[model.config.model_type]
    types = {
        "f32": LlamaFileType.ALL_F32,
        "f16": LlamaFileType.MOSTLY_F16,
        "bf16": LlamaFileType.MOSTLY_BF16,
        "q8_0": LlamaFileType.MOSTLY_Q8_0,
    }
    writer = GGUFWriter(file, architecture)
    writer.add_name(name)
    writer.add_file_type(types[kind])
    writer.add_quantization_version(2)
    _add_config(writer, model)
    vocabulary = read_vocabulary(tokenizer, model.get_input_embeddings().weight.shape[0])
    _add_vocabulary(writer, vocabulary, tokenizer, template)
    _add_tensors(writer, model, architecture, kind)
    writer.close()


def check_gguf(
    file: Path,
    model: Any,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    kind: str,
    probes: Sequence[Sequence[Sequence[int]]],
) -> Comparison:
    """Load the file with transformers' reader, and compare it with the model that was written.

    Args:
        file: what was written.
        model: that was written.
        tokenizer: its tokenizer.
        template: its chat template.
        kind: of ``TYPES``.
        probes: rows of tokens each, as ``read_probes`` gives them.

    Raises:
        CheckpointError: it gives other tokens, another template or other logits.
    """
    read = load_gguf(file, TYPES[kind])
    source = None if template is None else template.source
    if read.tokenizer.chat_template != source:
        raise CheckpointError(f"{file}: the chat template that is read is not the one that was written")
    # transformers' reader passes over what the file says of the space before a text, which does not show
    # behind a special token.
    hard = HARD if tokenizer.eos_token is None else tokenizer.eos_token + HARD
    texts = [*(str(tokenizer.decode(each[0])) for each in probes), hard]
    for text in texts:
        got, wanted = (
            list(each(text, add_special_tokens=False)["input_ids"]) for each in (read.tokenizer, tokenizer)
        )
        if got != wanted:
            raise CheckpointError(
                f"{file}: the tokenizer that is read gives other tokens for {text[:40]!r}…: {got[:8]} and not "
                f"{wanted[:8]}"
            )
    expected = [logits_of(model, each) for each in probes]
    got_logits = [logits_of(read.model, each) for each in probes]
    return compare_merged(expected, got_logits, Q8_0 if kind == "q8_0" else LIMITS[TYPES[kind]], str(file))


HARD = "Ünïcode, 1234567 and 3.14!  two spaces\n\n\ttab 中文 עברית 🙂 don't I'LL <b>x</b> snake_case"
"""What tokenizers cut differently when something is wrong."""


def _rope(config: Any) -> dict[str, Any]:
    return dict(getattr(config, "rope_parameters", None) or {})


def _add_config(writer: Any, model: Any) -> None:
    config = model.config
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    window = getattr(config, "sliding_window", None) if config.model_type == "mistral" else None
    writer.add_context_length(min(config.max_position_embeddings, window or config.max_position_embeddings))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(_rope(config).get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(model.get_input_embeddings().weight.shape[0])


def _add_vocabulary(
    writer: Any, vocabulary: Vocabulary, tokenizer: Tokenizer, template: BoundTemplate | None
) -> None:
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.cut)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    writer.add_add_space_prefix(vocabulary.space)
    writer.add_add_bos_token(vocabulary.bos)
    bos = getattr(tokenizer, "bos_token_id", None)
    for add, token in ((writer.add_bos_token_id, bos), (writer.add_pad_token_id, tokenizer.pad_token_id)):
        if token is not None:
            add(token)
    if template is None:
        if tokenizer.eos_token_id is not None:
            writer.add_eos_token_id(tokenizer.eos_token_id)
        return
    stops = stop_ids(tokenizer, template)
    # The first is the template's: what ends a turn is what ends an answer.
    writer.add_eos_token_id(stops[0])
    writer.add_eot_token_id(stops[0])
    writer.add_chat_template(template.source)


def _add_tensors(writer: Any, model: Any, architecture: str, kind: str) -> None:
    """All weights, one after the other, so that no second model is held in memory."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    config = model.config
    names = get_tensor_name_map(MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    tensors: list[tuple[str, Tensor]] = []
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise ConfigError(
                f"--gguf: there is no place for the weight {name!r} in the family {architecture!r}"
            )
        tensors.append((target, tensor))
    for target, tensor in tensors:
        array, stored = _encode(target, tensor, config, architecture, kind)
        writer.add_tensor_info(target, array.shape, array.dtype, array.nbytes, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for target, tensor in tensors:
        writer.write_tensor_data(_encode(target, tensor, config, architecture, kind)[0])


def _encode(target: str, tensor: Tensor, config: Any, architecture: str, kind: str) -> tuple[Any, Any]:
    """The bytes of a weight, and their type."""
    from gguf import GGMLQuantizationType, quantize

    value = tensor.detach().float().cpu()
    if architecture == "llama" and target.endswith(("attn_q.weight", "attn_k.weight")):
        heads = config.num_attention_heads if "attn_q" in target else config.num_key_value_heads
        value = pair_neighbours(value, heads)
    array: Any = value.contiguous().numpy()
    if array.ndim < 2:
        return array, GGMLQuantizationType.F32
    if kind == "q8_0" and array.shape[-1] % BLOCK:
        kind = "f16"  # a row that is no whole number of blocks
    stored = GGMLQuantizationType[kind.upper()]
    if kind == "f16" and np.abs(array).max() > np.finfo(np.float16).max:
        raise CheckpointError(f"--gguf f16: a weight in {target} is too large for it; choose bf16 or q8_0")
    return quantize(array, stored), stored


def pair_neighbours(weight: Tensor, heads: int) -> Tensor:
    """Rows ``i`` and ``i + size / 2`` of each head become neighbours.

    Args:
        weight: ``(heads * size, in)``.
        heads: how many there are.
    """
    rows, width = weight.shape
    return weight.view(heads, 2, rows // heads // 2, width).transpose(1, 2).reshape(rows, width)
