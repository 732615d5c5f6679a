"""Tiny vision-language models with random weights and their processors, saved as ordinary folders."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast

from helpers.pictures import encoded, picture
from xft.compat.processors import without_video
from xft.models import TextGenerator, load_saved_model
from xft.templates import BoundTemplate

_SPECIALS = ("<pad>", "<bos>", "<|im_start|>", "<|im_end|>")
_PARTS_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif -%}
{%- endfor -%}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""
_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
}
_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 4,
}
_MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}


@dataclass(frozen=True)
class Family:
    """A model family, in a size for tests.

    Attributes:
        config: makes the config from the ids of the special tokens and the size of the vocabulary.
        processor: makes the processor from the tokenizer.
        image: text that the chat template writes for an image.
        tokens: further special tokens, with their names as attributes of the tokenizer.
    """

    config: Callable[[dict[str, int], int], Any]
    processor: Callable[[Any], Any]
    image: str
    tokens: dict[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()


def byte_tokenizer(family: Family) -> Any:
    """A tokenizer whose tokens are bytes and the special tokens of a family."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*_SPECIALS, *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    extra: dict[str, Any] = {"extra_special_tokens": family.tokens} if family.tokens else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        **extra,
    )
    tokenizer.add_tokens([*_SPECIALS, *family.extra], special_tokens=True)
    tokenizer.chat_template = _PARTS_TEMPLATE.replace("IMAGE", family.image.replace("\n", "\\n"))
    return tokenizer


def save_vision_model(folder: Path, name: str) -> Path:
    """Save a tiny model of a family, its processor and its tokenizer as one folder."""
    family = FAMILIES[name]
    tokenizer = byte_tokenizer(family)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    ids |= {token: tokenizer.convert_tokens_to_ids(token) for token in family.extra}
    ids |= {name: tokenizer.convert_tokens_to_ids(token) for name, token in family.tokens.items()}
    torch.manual_seed(0)
    config = family.config(ids, len(tokenizer))
    model = AutoModelForImageTextToText.from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor = family.processor(tokenizer)
    processor.chat_template = tokenizer.chat_template
    processor.save_pretrained(folder)
    return folder


def vision_generator(folder: Path, name: str) -> TextGenerator:
    """Save a tiny model of a family in ``folder`` and return its generator."""
    loaded = load_saved_model(str(save_vision_model(folder, name)), dtype="float32")
    template = BoundTemplate(loaded.tokenizer, loaded.tokenizer.chat_template)
    return TextGenerator(loaded.model, loaded.tokenizer, template)


def write_image_rows(folder: Path, count: int = 12) -> Path:
    """Write rows in the format of OpenAI with zero to two images each, and the images next to them."""
    rows = []
    for number in range(count):
        names = [f"{number}-{index}.png" for index in range((1, 1, 2, 0)[number % 4])]
        for index, name in enumerate(names):
            size = (20 + 9 * (number % 3), 24 + 7 * (number % 5) + 3 * index)
            (folder / name).write_bytes(encoded(picture(*size, seed=number + index)))
        question = f"{'<image> and ' * len(names)}what is number {number}?"
        turns = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": f"Number {number}, {'yes ' * (number % 4)}."},
        ]
        rows.append({"messages": turns, "images": names})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _clip(**sizes: Any) -> Any:
    return transformers.CLIPVisionConfig(**{**_VISION, "image_size": 16, "projection_dim": 16, **sizes})


def _clip_processor() -> Any:
    size = {"height": 16, "width": 16}
    return transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size)


def _llava(ids: dict[str, int], vocabulary: int) -> Any:
    text = transformers.LlamaConfig(vocab_size=vocabulary, **_TEXT)
    return transformers.LlavaConfig(
        vision_config=_clip(), text_config=text, image_token_id=ids["<image>"], image_seq_length=16
    )


def _llava_next(ids: dict[str, int], vocabulary: int) -> Any:
    text = transformers.LlamaConfig(vocab_size=vocabulary, **_TEXT)
    return transformers.LlavaNextConfig(
        vision_config=_clip(),
        text_config=text,
        image_token_id=ids["<image>"],
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]],
        image_seq_length=16,
    )


def _llava_next_processor(tokenizer: Any) -> Any:
    images = transformers.LlavaNextImageProcessor(
        size={"shortest_edge": 16},
        crop_size={"height": 16, "width": 16},
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]],
    )
    return transformers.LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    )


def _llava_onevision(ids: dict[str, int], vocabulary: int) -> Any:
    text = transformers.Qwen2Config(vocab_size=vocabulary, **_TEXT)
    vision = transformers.SiglipVisionConfig(**{**_VISION, "image_size": 16})
    return transformers.LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=ids["<image>"],
        video_token_id=ids["<video>"],
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]],
    )


def _llava_onevision_processor(tokenizer: Any) -> Any:
    images = transformers.LlavaOnevisionImageProcessor(
        size={"height": 16, "width": 16}, image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]]
    )
    return without_video(transformers.LlavaOnevisionProcessor)(
        images, tokenizer, num_image_tokens=16, vision_feature_select_strategy="full"
    )


def _qwen_ids(ids: dict[str, int]) -> dict[str, int]:
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def _qwen2_vl(ids: dict[str, int], vocabulary: int) -> Any:
    vision = {
        "depth": 2,
        "embed_dim": 16,
        "hidden_size": 32,
        "num_heads": 2,
        "mlp_ratio": 2,
        "patch_size": 4,
    }
    text = {"vocab_size": vocabulary, **_TEXT, "rope_parameters": _MROPE}
    return transformers.Qwen2VLConfig(text_config=text, vision_config=vision, **_qwen_ids(ids))


def _qwen2_5_vl(ids: dict[str, int], vocabulary: int) -> Any:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "patch_size": 4,
        "out_hidden_size": 32,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    text = {"vocab_size": vocabulary, **_TEXT, "rope_parameters": _MROPE}
    return transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_qwen_ids(ids))


def _qwen3_vl(ids: dict[str, int], vocabulary: int) -> Any:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "patch_size": 4,
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    rope = {**_MROPE, "mrope_interleaved": True}
    text = {"vocab_size": vocabulary, **_TEXT, "head_dim": 8, "rope_parameters": rope}
    return transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **_qwen_ids(ids))


def _qwen_processor(kind: str) -> Callable[[Any], Any]:
    def make(tokenizer: Any) -> Any:
        size = {"shortest_edge": 8 * 8, "longest_edge": 48 * 48}
        images = transformers.Qwen2VLImageProcessor(patch_size=4, merge_size=2, size=size)
        return without_video(getattr(transformers, f"{kind}Processor"))(images, tokenizer)

    return make


def _internvl(ids: dict[str, int], vocabulary: int) -> Any:
    vision = transformers.InternVLVisionConfig(**{**_VISION, "image_size": [16, 16], "patch_size": [4, 4]})
    text = transformers.Qwen2Config(vocab_size=vocabulary, **_TEXT)
    return transformers.InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=ids["<IMG_CONTEXT>"], image_seq_length=4
    )


def _internvl_processor(tokenizer: Any) -> Any:
    images = transformers.GotOcr2ImageProcessor(
        size={"height": 16, "width": 16}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    return without_video(transformers.InternVLProcessor)(images, tokenizer, image_seq_length=4)


def _idefics3(kind: str) -> Callable[[dict[str, int], int], Any]:
    def make(ids: dict[str, int], vocabulary: int) -> Any:
        text = transformers.LlamaConfig(vocab_size=vocabulary, pad_token_id=0, **_TEXT)
        vision = {**_VISION, "image_size": 16}
        return getattr(transformers, f"{kind}Config")(
            vision_config=vision,
            text_config=text,
            image_token_id=ids["<image>"],
            scale_factor=2,
            pad_token_id=0,
        )

    return make


def _idefics3_processor(kind: str) -> Callable[[Any], Any]:
    def make(tokenizer: Any) -> Any:
        images = getattr(transformers, f"{kind}ImageProcessor")(
            size={"longest_edge": 32}, max_image_size={"longest_edge": 16}
        )
        processor = without_video(getattr(transformers, f"{kind}Processor"))
        return processor(images, tokenizer, image_seq_len=4)

    return make


def _gemma3(ids: dict[str, int], vocabulary: int) -> Any:
    text = {
        "vocab_size": vocabulary,
        **_TEXT,
        "head_dim": 8,
        "sliding_window": 32,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 8,
    }
    text.pop("rope_theta")
    vision = {**_VISION, "image_size": 16, "vision_use_head": False}
    return transformers.Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=ids["<image_soft_token>"],
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
    )


def _gemma3_processor(tokenizer: Any) -> Any:
    images = transformers.Gemma3ImageProcessor(size={"height": 16, "width": 16})
    return transformers.Gemma3Processor(images, tokenizer, image_seq_length=4)


_QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_QWEN_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}
_SMOL_EXTRA = (
    "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
)  # fmt: skip

FAMILIES = {
    "llava": Family(
        _llava,
        lambda tokenizer: transformers.LlavaProcessor(
            _clip_processor(),
            tokenizer,
            patch_size=4,
            vision_feature_select_strategy="default",
            image_token="<image>",
            num_additional_image_tokens=1,
        ),
        "<image>",
        {"image_token": "<image>"},
    ),
    "llava_next": Family(_llava_next, _llava_next_processor, "<image>", {"image_token": "<image>"}),
    "llava_onevision": Family(
        _llava_onevision,
        _llava_onevision_processor,
        "<image>",
        {"image_token": "<image>", "video_token": "<video>"},
    ),
    "qwen2_vl": Family(_qwen2_vl, _qwen_processor("Qwen2VL"), _QWEN_IMAGE, _QWEN_TOKENS),
    "qwen2_5_vl": Family(_qwen2_5_vl, _qwen_processor("Qwen2_5_VL"), _QWEN_IMAGE, _QWEN_TOKENS),
    "qwen3_vl": Family(_qwen3_vl, _qwen_processor("Qwen3VL"), _QWEN_IMAGE, _QWEN_TOKENS),
    "internvl": Family(
        _internvl,
        _internvl_processor,
        "<IMG_CONTEXT>\n",
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    "idefics3": Family(
        _idefics3("Idefics3"), _idefics3_processor("Idefics3"), "<image>", extra=_SMOL_EXTRA
    ),
    "gemma3": Family(
        _gemma3,
        _gemma3_processor,
        "<start_of_image>",
        {
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    ),
}
