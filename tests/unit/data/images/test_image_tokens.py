"""Token ids of a text with image tokens, from a text in which they are collapsed."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import SHARED
from helpers.vision import FAMILIES, byte_tokenizer
from tokenizers import AddedToken
from transformers import AutoTokenizer

from xft.data.images.image_tokens import ImageTokenCollapser
from xft.types import Segment

PIECES = ("a cat", " ", "\n", "Ünï\n\n", "<b>", "  two  spaces ", ".", "<imag", "e>")
TOKENIZERS = [*FAMILIES, "qwen3", "llama3"]


def open_tokenizer(name: str) -> tuple[Any, list[int]]:
    """A tokenizer with image tokens, and their ids."""
    if name in FAMILIES:
        tokenizer = byte_tokenizer(FAMILIES[name])
        names = (
            ["<image>" if name == "idefics3" else tokenizer.image_token]
            if name != "internvl"
            else ["<IMG_CONTEXT>"]
        )
    else:
        folder = SHARED / "tokenizers" / name
        if not folder.is_dir():
            pytest.skip(f"needs {folder}")
        tokenizer, names = AutoTokenizer.from_pretrained(folder), ["<image>", "<video>"]
        tokenizer.add_special_tokens({"additional_special_tokens": names})
    return tokenizer, tokenizer.convert_tokens_to_ids(names)


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_are_those_of_the_whole_text(name: str) -> None:
    tokenizer, image_ids = open_tokenizer(name)
    collapser, choose = ImageTokenCollapser(tokenizer, image_ids), random.Random(0)
    tokens = tokenizer.convert_ids_to_tokens(image_ids)
    for _ in range(50):
        pieces = [
            choose.choice(tokens) * choose.choice((1, 2, 9, 300))
            if choose.random() < 0.4
            else choose.choice(PIECES)
            for _ in range(choose.randint(1, 9))
        ]
        segments = [
            Segment("".join(pieces[:3]), is_target=False),
            Segment("".join(pieces[3:]), is_target=True),
        ]
        collapsed, counts = collapser.collapse(segments)
        assert [segment.is_target for segment in collapsed] == [False, True]
        ids = np.array(
            tokens_of(tokenizer, "".join([segment.text for segment in collapsed])), dtype=np.int32
        )
        expected = tokens_of(tokenizer, "".join(pieces))
        assert ids.repeat(collapser.repeats(ids, counts)).tolist() == expected
        assert len(counts) == sum(number in image_ids for number in ids.tolist())
        if max(counts, default=0) > 1:
            assert len(ids) < len(expected)


@pytest.mark.parametrize(
    "token", ["ee", AddedToken("<x>", single_word=True, special=True), AddedToken("e<", special=True)]
)
def test_token_that_is_merged_with_its_neighbors_is_left_alone(
    make_byte_tokenizer: Any, token: Any
) -> None:
    tokenizer = make_byte_tokenizer()
    if isinstance(token, AddedToken):
        tokenizer.add_special_tokens({"additional_special_tokens": [token]})
    number = tokenizer.convert_tokens_to_ids(str(token)) if isinstance(token, AddedToken) else 5
    segments = [Segment(f"some {str(token) * 9}e text", is_target=False)]
    collapser = ImageTokenCollapser(tokenizer, [number])
    collapsed, counts = collapser.collapse(segments)
    ids = np.array(tokens_of(tokenizer, collapsed[0].text), dtype=np.int32)
    repeated = ids.repeat(collapser.repeats(ids, counts)) if counts else ids
    assert repeated.tolist() == tokens_of(tokenizer, segments[0].text)


def test_model_without_image_tokens_changes_nothing(make_byte_tokenizer: Any, tmp_path: Path) -> None:
    segments = [Segment("a" * 9, is_target=False)]
    assert ImageTokenCollapser(make_byte_tokenizer(), []).collapse(segments) == (segments, [])
