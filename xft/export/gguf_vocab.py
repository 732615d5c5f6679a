"""The vocabulary of a tokenizer, as a GGUF file has it."""

import json
from dataclasses import dataclass, field
from typing import Any

from xft.errors import ConfigError
from xft.types import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""The kinds of token in a GGUF file (ggml's ``llama_token_type``)."""

_QWEN = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA = _QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPLITS = {_ENGLISH + _QWEN: "qwen2", _ENGLISH + _LLAMA: "llama-bpe"}
"""How a text is cut before its pieces are merged, and what llama.cpp calls that."""


@dataclass
class Vocabulary:
    """What a GGUF file says of a tokenizer.

    Attributes:
        kind: ``gpt2`` (bytes as characters) or ``llama`` (as SentencePiece has it).
        cut: how a text is cut first, by llama.cpp's name.
        tokens: all of them, as many as the embeddings have rows.
        types: of each.
        merges: of two tokens each, for ``gpt2``.
        scores: of each token, for ``llama``: those that are merged first have the greatest.
        space: whether a space is put before a text.
        bos: whether every text begins with the BOS token.
    """

    kind: str
    cut: str
    tokens: list[str]
    types: list[int]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    space: bool = False
    bos: bool = False


def read_vocabulary(tokenizer: Tokenizer, rows: int) -> Vocabulary:
    """Read the vocabulary of a fast tokenizer.

    Args:
        tokenizer: the model's.
        rows: of the embeddings; those that no token has get a name that no text gives.

    Raises:
        ConfigError: it is of a kind that GGUF readers would cut otherwise.
    """
    source: Any = tokenizer
    if not hasattr(source, "backend_tokenizer"):
        raise ConfigError("--gguf: the tokenizer is no fast one, so its merges cannot be read")
    parts = json.loads(source.backend_tokenizer.to_str())
    if len(tokenizer) > rows:
        raise ConfigError(
            f"--gguf: the tokenizer has {len(tokenizer)} tokens, and the embeddings only {rows} rows"
        )
    if parts["model"]["type"] != "BPE":
        raise ConfigError(f"--gguf: the tokenizer is {parts['model']['type']}, only BPE is written")
    tokens, types = _tokens(parts, rows)
    merges = [each if isinstance(each, str) else " ".join(each) for each in parts["model"]["merges"]]
    ids = list(tokenizer("a")["input_ids"])
    bos = bool(ids) and ids[0] == getattr(tokenizer, "bos_token_id", None)
    if parts["model"].get("byte_fallback"):
        unknown = parts["model"].get("unk_token")
        types = [
            BYTE if token.startswith("<0x") and len(token) == 6 else UNKNOWN if token == unknown else kind
            for token, kind in zip(tokens, types, strict=True)
        ]
        return Vocabulary(
            "llama", "default", tokens, types, [], _scores(tokens, merges), _spaced(parts), bos
        )
    return Vocabulary("gpt2", _cut(parts), tokens, types, merges, bos=bos)


def _tokens(parts: Any, rows: int) -> tuple[list[str], list[int]]:
    tokens = [f"[PAD{index}]" for index in range(rows)]
    types = [UNUSED] * rows
    for token, index in parts["model"]["vocab"].items():
        tokens[index], types[index] = token, NORMAL
    for each in parts["added_tokens"]:
        tokens[each["id"]] = each["content"]
        types[each["id"]] = CONTROL if each["special"] else USER_DEFINED
    return tokens, types


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """A token's is the negative rank of the first merge that makes it."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    return [-float(ranks.get(each, 0)) for each in tokens]


def _spaced(parts: Any) -> bool:
    pieces = [
        *_flat(parts.get("normalizer"), "normalizers"),
        *_flat(parts.get("pre_tokenizer"), "pretokenizers"),
    ]
    return any(
        each["type"] == "Prepend" or (each["type"] == "Metaspace" and each.get("prepend_scheme") != "never")
        for each in pieces
    )


def _cut(parts: Any) -> str:
    """llama.cpp's name for how a text is cut.

    Raises:
        ConfigError: it has none that is known here.
    """
    steps = _flat(parts.get("pre_tokenizer"), "pretokenizers")
    kinds = [each["type"] for each in steps]
    if kinds == ["Split", "ByteLevel"]:
        known = SPLITS.get(str(steps[0]["pattern"].get("Regex")))
        if known is not None:
            return known
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and steps[1]["use_regex"]:
        return "smollm"
    if kinds == ["ByteLevel"] and not steps[0]["add_prefix_space"]:
        return "gpt-2"
    raise ConfigError(
        f"--gguf: the tokenizer cuts texts in a way that is not known here ({', '.join(kinds) or 'none'}); known are "
        "those of Llama 3, Qwen 2 and 3, SmolLM, GPT-2 and SentencePiece"
    )


def _flat(step: Any, inner: str) -> list[Any]:
    if step is None:
        return []
    return list(step[inner]) if step["type"] == "Sequence" else [step]
