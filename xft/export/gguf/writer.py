"""Write a model as one GGUF file for llama.cpp, Ollama and other runtimes.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, written with the package ``gguf``.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from xft.errors import CheckpointError, ConfigError
from xft.export.gguf.architectures import embedding_rows, rope_parameters
from xft.export.gguf.vocab import Vocabulary, read_vocabulary
from xft.models.families import family_of, optional_field
from xft.models.generation import stop_ids
from xft.models.model_options import transformers_config
from xft.templates import BoundTemplate
from xft.types import Tokenizer

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PretrainedConfig, PreTrainedModel

QUANT_BLOCK = 32
"""Weights per block of Q8_0."""


def write_gguf(
    model: "PreTrainedModel",
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    gguf_type: str,
    file: Path,
    name: str,
) -> None:
    """Write a full model as a GGUF file.

    Args:
        model: on the CPU, accepted by ``check_supported``.
        tokenizer: of the model.
        template: chat template; ``None`` writes none.
        gguf_type: key of ``DTYPES``; norms and biases are always fp32.
        file: path of the file.
        name: of the model, stored in the file.
    """
    from gguf import GGUFWriter, LlamaFileType

    architecture = family_of(transformers_config(model)).gguf_architecture
    assert architecture is not None
    file_types = {
        "f32": LlamaFileType.ALL_F32,
        "f16": LlamaFileType.MOSTLY_F16,
        "bf16": LlamaFileType.MOSTLY_BF16,
        "q8_0": LlamaFileType.MOSTLY_Q8_0,
    }
    writer = GGUFWriter(file, architecture)
    writer.add_name(name)
    writer.add_file_type(file_types[gguf_type])
    writer.add_quantization_version(2)
    _add_config(writer, model)
    vocabulary = read_vocabulary(tokenizer, embedding_rows(model))
    _add_vocabulary(writer, vocabulary, tokenizer, template)
    _add_tensors(writer, model, architecture, gguf_type)
    writer.close()


def _add_config(writer: "GGUFWriter", model: "PreTrainedModel") -> None:
    config: Any = model.config
    heads = config.num_attention_heads
    size = optional_field(config, "head_dim") or config.hidden_size // heads
    window = optional_field(config, "sliding_window") if family_of(config).gguf_sliding_window else None
    writer.add_context_length(min(config.max_position_embeddings, window or config.max_position_embeddings))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(rope_parameters(config).get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(embedding_rows(model))


def _add_vocabulary(
    writer: "GGUFWriter", vocabulary: Vocabulary, tokenizer: Tokenizer, template: BoundTemplate | None
) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    writer.add_add_space_prefix(vocabulary.add_space_prefix)
    writer.add_add_bos_token(vocabulary.add_bos)
    bos = tokenizer.bos_token_id
    for add, token in ((writer.add_bos_token_id, bos), (writer.add_pad_token_id, tokenizer.pad_token_id)):
        if token is not None:
            add(token)
    if template is None:
        if tokenizer.eos_token_id is not None:
            writer.add_eos_token_id(tokenizer.eos_token_id)
        return
    stops = stop_ids(tokenizer, template)
    # The first stop token is the template's end-of-turn token.
    writer.add_eos_token_id(stops[0])
    writer.add_eot_token_id(stops[0])
    writer.add_chat_template(template.source)


def _add_tensors(writer: "GGUFWriter", model: "PreTrainedModel", architecture: str, gguf_type: str) -> None:
    """Write all weights one at a time, which never holds a second model in memory."""
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
                key="--gguf",
                got=f"weight {name!r}",
                expected=f"a weight of the architecture {architecture!r}",
            )
        tensors.append((target, tensor))
    for target, tensor in tensors:
        array, stored = _encode(target, tensor, config, architecture, gguf_type)
        writer.add_tensor_info(target, array.shape, array.dtype, array.nbytes, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for target, tensor in tensors:
        writer.write_tensor_data(_encode(target, tensor, config, architecture, gguf_type)[0])


def _encode(
    target: str, tensor: Tensor, config: "PretrainedConfig", architecture: str, gguf_type: str
) -> tuple[Any, Any]:
    """Return the encoded array of a weight and its GGUF type."""
    from gguf import GGMLQuantizationType, quantize

    value = tensor.detach().float().cpu()
    if architecture == "llama" and target.endswith(("attn_q.weight", "attn_k.weight")):
        heads = config.num_attention_heads if "attn_q" in target else config.num_key_value_heads
        value = permute_rope(value, heads)
    array: npt.NDArray[np.float32] = value.contiguous().numpy()
    if array.ndim < 2:
        return array, GGMLQuantizationType.F32
    if gguf_type == "q8_0" and array.shape[-1] % QUANT_BLOCK:
        gguf_type = "f16"  # the row length is not a multiple of the block size
    stored = GGMLQuantizationType[gguf_type.upper()]
    if gguf_type == "f16" and np.abs(array).max() > np.finfo(np.float16).max:
        raise CheckpointError(
            key=f"--gguf f16: {target}",
            got="a weight outside the range of float16",
            expected="smaller weights",
            fix="use bf16 or q8_0",
        )
    return quantize(array, stored), stored


def permute_rope(weight: Tensor, heads: int) -> Tensor:
    """Interleave the two halves of each head's rows.

    Llama's rotary embedding pairs neighboring rows in GGUF, and rows half a head apart in transformers.

    Args:
        weight: ``(heads * head_dim, in)`` of a query or key projection.
        heads: number of heads.
    """
    rows, width = weight.shape
    return weight.view(heads, 2, rows // heads // 2, width).transpose(1, 2).reshape(rows, width)
