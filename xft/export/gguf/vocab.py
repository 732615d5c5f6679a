"""Convert the vocabulary of a tokenizer to the fields of a GGUF file."""

import json
from dataclasses import dataclass, field
from typing import Any

from xft.errors import ConfigError
from xft.types import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Token types of GGUF (``llama_token_type`` of ggml)."""

_QWEN = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA = _QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
PRE_TOKENIZERS = {_CONTRACTIONS + _QWEN: "qwen2", _CONTRACTIONS + _LLAMA: "llama-bpe"}
"""llama.cpp's name of a pre-tokenizer by its regular expression."""


@dataclass
class Vocabulary:
    """Tokenizer fields of a GGUF file.

    Attributes:
        model: ``gpt2`` (byte-level BPE) or ``llama`` (SentencePiece).
        pre: llama.cpp's name of the pre-tokenizer.
        tokens: one per row of the embeddings.
        types: type of each token.
        merges: pairs of tokens, for ``gpt2``.
        scores: score of each token, for ``llama``; earlier merges have higher scores.
        add_space_prefix: whether a space is prepended to a text.
        add_bos: whether the BOS token is prepended to a text.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    add_space_prefix: bool = False
    add_bos: bool = False


def read_vocabulary(tokenizer: Tokenizer, rows: int) -> Vocabulary:
    """Read the vocabulary of a fast tokenizer.

    Args:
        tokenizer: of the model.
        rows: number of rows of the embeddings; unused rows become padding tokens.

    Raises:
        ConfigError: GGUF readers would tokenize differently.
    """
    if not tokenizer.is_fast:
        raise ConfigError(key="--gguf", got="a slow tokenizer", expected="a fast one, which has merges")
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    if len(tokenizer) > rows:
        raise ConfigError(
            key="--gguf",
            got=f"{len(tokenizer)} tokens",
            expected=f"at most {rows}, the rows of the embeddings",
        )
    if parts["model"]["type"] != "BPE":
        raise ConfigError(
            key="--gguf", got=f"a {parts['model']['type']} tokenizer", expected="a BPE tokenizer"
        )
    tokens, types = _tokens(parts, rows)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in parts["model"]["merges"]]
    ids = list(tokenizer("a")["input_ids"])
    add_bos = bool(ids) and ids[0] == tokenizer.bos_token_id
    if parts["model"].get("byte_fallback"):
        unknown = parts["model"].get("unk_token")
        types = [
            BYTE if token.startswith("<0x") and len(token) == 6 else UNKNOWN if token == unknown else type_
            for token, type_ in zip(tokens, types, strict=True)
        ]
        return Vocabulary(
            "llama", "default", tokens, types, [], _scores(tokens, merges), _adds_space(parts), add_bos
        )
    return Vocabulary("gpt2", _pre_tokenizer(parts), tokens, types, merges, add_bos=add_bos)


def _tokens(parts: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    tokens = [f"[PAD{index}]" for index in range(rows)]
    types = [UNUSED] * rows
    for token, index in parts["model"]["vocab"].items():
        tokens[index], types[index] = token, NORMAL
    for added in parts["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    return tokens, types


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Return the negative rank of the first merge that produces each token."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    return [-float(ranks.get(token, 0)) for token in tokens]


def _adds_space(parts: dict[str, Any]) -> bool:
    steps = [
        *_flat(parts.get("normalizer"), "normalizers"),
        *_flat(parts.get("pre_tokenizer"), "pretokenizers"),
    ]
    return any(
        step["type"] == "Prepend" or (step["type"] == "Metaspace" and step.get("prepend_scheme") != "never")
        for step in steps
    )


def _pre_tokenizer(parts: dict[str, Any]) -> str:
    """Return llama.cpp's name of the pre-tokenizer.

    Raises:
        ConfigError: the pre-tokenizer is unknown.
    """
    steps = _flat(parts.get("pre_tokenizer"), "pretokenizers")
    kinds = [step["type"] for step in steps]
    if kinds == ["Split", "ByteLevel"]:
        name = PRE_TOKENIZERS.get(str(steps[0]["pattern"].get("Regex")))
        if name is not None:
            return name
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1]["use_regex"]:
        return "smollm"
    if kinds == ["ByteLevel"] and not steps[0]["add_prefix_space"]:
        return "gpt-2"
    raise ConfigError(
        key="--gguf",
        got=f"pre-tokenizer {', '.join(kinds) or 'none'}",
        expected="that of Llama 3, Qwen 2 or 3, SmolLM, GPT-2 or SentencePiece",
    )


def _flat(step: dict[str, Any] | None, inner: str) -> list[Any]:
    if step is None:
        return []
    return list(step[inner]) if step["type"] == "Sequence" else [step]
