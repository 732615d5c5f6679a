"""Tokenize one token in place of a run of equal tokens, which an image is.

A tokenizer takes longer for hundreds of image tokens than for the text around them. An added token splits a text before
anything else happens, so the tokens of the shortened text are those of the text, except for their number.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from xft.types import IntArray, Segment, Tokenizer

_PROBES = ("a{}b", "a {} b", "{}\n{}.", "{}")
"""Texts in which the tokens of a run are compared with those of one token."""


class TokenRuns:
    """Shorten runs of image tokens in a text, and restore them in its tokens.

    Args:
        tokenizer: of the model.
        token_ids: ids of image tokens. One that the tokenizer merges with its neighbors stays as it is.
    """

    def __init__(self, tokenizer: Tokenizer, token_ids: Iterable[int]) -> None:
        added = tokenizer.added_tokens_decoder
        tokens = {number: str(added[number]) for number in sorted(token_ids) if number in added}
        tokens = {
            number: token for number, token in tokens.items() if _is_repeated(tokenizer, number, token)
        }
        self._ids, self._tokens = list(tokens), list(tokens.values())
        pattern = "|".join(f"((?:{re.escape(token)})+)" for token in self._tokens)
        self._pattern = re.compile(pattern) if pattern else None

    def shorten(self, segments: Sequence[Segment]) -> tuple[list[Segment], list[int]]:
        """Return segments with one token for each run, and the number of tokens of each run."""
        if self._pattern is None:
            return list(segments), []
        sizes: list[int] = []

        def one(run: re.Match[str]) -> str:
            assert run.lastindex is not None
            token = self._tokens[run.lastindex - 1]
            sizes.append(len(run[0]) // len(token))
            return token

        texts = [self._pattern.sub(one, segment.text) for segment in segments]
        return [
            Segment(text, segment.is_target) for text, segment in zip(texts, segments, strict=True)
        ], sizes

    def repeats(self, ids: IntArray, sizes: Sequence[int]) -> npt.NDArray[np.int64]:
        """Return how often each token of shortened segments is repeated in the segments.

        Args:
            ids: ``(length,)`` tokens of the shortened segments.
            sizes: result of :meth:`shorten`.
        """
        repeats = np.ones(len(ids), dtype=np.int64)
        # Faster than np.isin for a few ids.
        repeats[np.logical_or.reduce([ids == number for number in self._ids])] = sizes
        return repeats


def _is_repeated(tokenizer: Tokenizer, number: int, token: str) -> bool:
    """Measure whether a run of a token has the tokens of one, repeated."""
    for probe in _PROBES:
        one, run = (
            tokenizer(probe.replace("{}", token * size), add_special_tokens=False)["input_ids"]
            for size in (1, 3)
        )
        expected = [item for item in one for _ in range(3 if item == number else 1)]
        if number not in one or run != expected:
            return False
    return True
