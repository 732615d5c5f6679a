from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from xft.errors import ConfigError
from xft.export.gguf.vocab import CONTROL, NORMAL, UNUSED, USER_DEFINED, read_vocabulary


@pytest.mark.parametrize(
    ("name", "pre"),
    [("llama3_tokenizer", "llama-bpe"), ("qwen3_tokenizer", "qwen2"), ("internlm2_tokenizer", "default")],
)
def test_read_vocabulary_of_official_tokenizer_has_its_pre_tokenizer_and_tokens(
    name: str, pre: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(name)
    vocabulary = read_vocabulary(tokenizer, len(tokenizer) + 8)
    assert vocabulary.pre == pre
    padding = [f"[PAD{index}]" for index in range(len(tokenizer), len(tokenizer) + 8)]
    assert vocabulary.tokens[-8:] == padding
    for token in ("a", "<|im_start|>" if "llama3" not in name else "<|eot_id|>"):
        assert vocabulary.tokens[tokenizer.convert_tokens_to_ids(token)] == token
    assert bool(vocabulary.merges) != bool(vocabulary.scores)


def test_read_vocabulary_types_tokens_and_pads_rows(make_byte_tokenizer: Any) -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.add_tokens(["<tool>"])
    vocabulary = read_vocabulary(tokenizer, len(tokenizer) + 2)
    types = dict(zip(vocabulary.tokens, vocabulary.types, strict=True))
    assert (types["a"], types["<|im_end|>"], types["<tool>"]) == (NORMAL, CONTROL, USER_DEFINED)
    assert vocabulary.types[-2:] == [UNUSED, UNUSED]
    assert (vocabulary.model, vocabulary.pre, vocabulary.add_bos) == ("gpt2", "gpt-2", False)


def _fast(model: Any, pre_tokenizer: Any = None) -> Any:
    tokenizer = Tokenizer(model)
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


class _Slow:
    is_fast = False


VOCAB = {"a": 0, "b": 1, "ab": 2}


@pytest.mark.parametrize(
    ("tokenizer", "rows", "got"),
    [
        (_fast(models.WordLevel(VOCAB, "a")), 3, "a WordLevel tokenizer"),
        (_fast(models.BPE(VOCAB, [("a", "b")])), 2, "3 tokens"),
        (_fast(models.BPE(VOCAB, [("a", "b")])), 3, "pre-tokenizer none"),
        (_fast(models.BPE(VOCAB, []), pre_tokenizers.Whitespace()), 3, "pre-tokenizer Whitespace"),
        (_fast(models.BPE(VOCAB, []), pre_tokenizers.ByteLevel()), 3, "pre-tokenizer ByteLevel"),
        (_Slow(), 3, "a slow tokenizer"),
    ],
)
def test_tokenizer_that_readers_do_not_know_raises_config_error(
    tokenizer: Any, rows: int, got: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read_vocabulary(tokenizer, rows)
    assert (error.value.key, error.value.got) == ("--gguf", got)


def test_scores_of_sentencepiece_tokens_are_ranks_of_their_first_merge() -> None:
    vocab = {"<unk>": 0, "<0x41>": 1, "a": 2, "b": 3, "ab": 4, "aba": 5}
    merges = [("a", "b"), ("ab", "a")]
    tokenizer = _fast(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    vocabulary = read_vocabulary(tokenizer, len(vocab))
    assert vocabulary.scores == [0, 0, 0, 0, 0, -1]
    assert vocabulary.types == [2, 6, 1, 1, 1, 1]
    assert (vocabulary.model, vocabulary.merges, vocabulary.add_space_prefix) == ("llama", [], False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    assert read_vocabulary(tokenizer, len(vocab)).add_space_prefix
