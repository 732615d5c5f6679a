"""Speed up tokenization: collapse each sequence of identical image tokens to one, tokenize, then repeat the id.

A tokenizer takes longer for hundreds of image tokens than for the text around them. An added token splits a text before
anything else happens, so the collapsed text has the same token ids, except for the repeated ones.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from xft.types import IntArray, Segment, Tokenizer

_PROBES = ("a{}b", "a {} b", "{}\n{}.", "{}")
"""Texts on which the token ids of a repeated token are compared with those of a single one."""


class ImageTokenCollapser:
    """Collapse sequences of identical image tokens in a text, and compute how often to repeat their ids.

    Args:
        tokenizer: tokenizer of the model.
        token_ids: ids of image tokens. One that the tokenizer merges with its neighbors is never collapsed.
    """

    def __init__(self, tokenizer: Tokenizer, token_ids: Iterable[int]) -> None:
        added = tokenizer.added_tokens_decoder
        tokens = {token_id: str(added[token_id]) for token_id in sorted(token_ids) if token_id in added}
        tokens = {
            token_id: token
            for token_id, token in tokens.items()
            if _can_be_collapsed(tokenizer, token_id, token)
        }
        self._ids, self._tokens = list(tokens), list(tokens.values())
        pattern = "|".join(f"((?:{re.escape(token)})+)" for token in self._tokens)
        self._pattern = re.compile(pattern) if pattern else None

    def collapse(self, segments: Sequence[Segment]) -> tuple[list[Segment], list[int]]:
        """Replace each sequence of identical image tokens by one of them.

        Returns:
            The collapsed segments; and the number of tokens of each sequence, in the order of the text.
        """
        if self._pattern is None:
            return list(segments), []
        counts: list[int] = []

        def first_token(sequence: re.Match[str]) -> str:
            assert sequence.lastindex is not None
            token = self._tokens[sequence.lastindex - 1]
            counts.append(len(sequence[0]) // len(token))
            return token

        texts = [self._pattern.sub(first_token, segment.text) for segment in segments]
        return [
            Segment(text, segment.is_target) for text, segment in zip(texts, segments, strict=True)
        ], counts

    def repeats(self, ids: IntArray, counts: Sequence[int]) -> npt.NDArray[np.int64]:
        """Return how often to repeat each token id of collapsed segments.

        Args:
            ids: ``(length,)`` token ids of the collapsed segments.
            counts: second result of :meth:`collapse`.

        Returns:
            ``(length,)``; the sum is the number of tokens before collapsing.
        """
        repeats = np.ones(len(ids), dtype=np.int64)
        # Faster than np.isin for a few ids.
        repeats[np.logical_or.reduce([ids == token_id for token_id in self._ids])] = counts
        return repeats


def _can_be_collapsed(tokenizer: Tokenizer, token_id: int, token: str) -> bool:
    """Measure whether three tokens in a row have the ids of one, repeated."""
    for probe in _PROBES:
        single, repeated = (
            tokenizer(probe.replace("{}", token * count), add_special_tokens=False)["input_ids"]
            for count in (1, 3)
        )
        expected = [item for item in single for _ in range(3 if item == token_id else 1)]
        if token_id not in single or repeated != expected:
            return False
    return True
