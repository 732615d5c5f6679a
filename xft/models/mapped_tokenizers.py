"""Tokenizers of the families in :mod:`xft.models.mapped_families`, converted from their SentencePiece models.

The tokenizer classes of these families are Python code in the model folder, for earlier versions of transformers.
"""

from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer, LlamaTokenizer
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils.hub import cached_file

from xft.errors import ModelError

_FILE = "tokenizer.model"
_TEXTS = ("Hello world", " two  spaces\n\tand a tab ", "你好，世界。", "naïve 😀 12345")
"""Texts on which a converted tokenizer and SentencePiece are compared."""


def load_mapped_tokenizer(source: str, model_type: str) -> Any:
    """Load the tokenizer of a mapped family without executing code of the folder.

    Args:
        source: folder or hub name.
        model_type: of the model.

    Raises:
        ModelError: the conversion of the SentencePiece model would give other tokens.
    """
    options: dict[str, Any] = {"local_files_only": Path(source).is_dir()}
    optional: dict[str, Any] = options | {"_raise_exceptions_for_missing_entries": False}
    if cached_file(source, "tokenizer.json", **optional):
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    fields = get_tokenizer_config(source, **options)
    options["add_bos_token"] = bool(fields.get("add_bos_token", True))
    if model_type == "internlm2":
        # transformers gives the special tokens of tokenizer_config.json the ids of unused pieces.
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    else:
        tokenizer = LlamaTokenizer.from_pretrained(source, add_prefix_space=False, **options)
    _check_equal(source, tokenizer, str(cached_file(source, _FILE)))
    return tokenizer


def _check_equal(source: str, tokenizer: Any, file: str) -> None:
    """Compare a converted tokenizer with SentencePiece.

    Raises:
        ModelError: some text has other tokens.
    """
    original = SentencePieceProcessor(model_file=file)
    for text in _TEXTS:
        expected, ids = original.encode(text), tokenizer.encode(text, add_special_tokens=False)
        if ids != expected:
            raise ModelError(
                key="model.tokenizer",
                got=f"{source}, whose {_FILE} is converted to other tokens ({ids[:4]} for {text!r})",
                expected=f"{expected[:4]}",
                fix="set model.tokenizer to a folder with a tokenizer.json of the same model",
            )
