"""Decode tokens to text and match stop texts, in time linear in the length of the answer."""

from collections.abc import Collection, Sequence

from xft.types import Tokenizer

MAX_PENDING_TOKENS = 32
"""Tokens that may wait for the rest of a character; a character has at most 4 bytes."""


class TextStream:
    """Decodes the tokens of an answer as they arrive.

    The text of a token may depend on the token before it, such as the space at its beginning, and a character may
    consist of several tokens. So the new tokens are decoded together with the last decoded ones, whose text is removed.

    Args:
        tokenizer: of the model.
        kept_special_ids: ids of special tokens that are part of the text; other special tokens are not.
    """

    def __init__(self, tokenizer: Tokenizer, kept_special_ids: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self._skipped = {token_id for token_id, token in added.items() if token.special} - {
            *kept_special_ids
        }
        self._ids: list[int] = []
        self._num_decoded = 0

    def add(self, token: int) -> str:
        """Append a token and return the text that it completes."""
        if token in self._skipped:
            return ""
        self._ids.append(token)
        text = self._decode(self._ids)
        is_incomplete = text.endswith("\ufffd")
        if is_incomplete and len(self._ids) - self._num_decoded < MAX_PENDING_TOKENS:
            return ""
        return self._take(text)

    def finish(self) -> str:
        """Return the text of incomplete characters at the end."""
        return self._take(self._decode(self._ids))

    def _take(self, text: str) -> str:
        decoded = self._decode(self._ids[: self._num_decoded])
        self._ids = self._ids[self._num_decoded :]
        self._num_decoded = len(self._ids)
        return text[len(decoded) :]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False)) if ids else ""


class StopMatcher:
    """Finds the first of several texts in a text that arrives in pieces.

    Each text has an automaton of Knuth, Morris and Pratt (1977): a state is the length of the longest end of the text
    so far that starts the stop text. The time per character does not depend on the lengths of the stop texts.

    Args:
        stops: texts to find; not empty ones.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [(stop, _prefix_lengths(stop)) for stop in stops]
        self._states = [0] * len(stops)
        self._length = 0

    @property
    def num_held(self) -> int:
        """Number of characters at the end of the text that may belong to a stop text."""
        return max(self._states, default=0)

    def feed(self, piece: str) -> int | None:
        """Append a piece; return the offset at which a stop text begins, if one ends in the piece.

        Of several that end with the same character, the longest counts.
        """
        if not self._stops:
            return None
        for char in piece:
            self._length += 1
            begins: list[int] = []
            for index, (stop, prefix_lengths) in enumerate(self._stops):
                state = self._states[index]
                while state and stop[state] != char:
                    state = prefix_lengths[state - 1]
                state += stop[state] == char
                if state == len(stop):
                    begins.append(self._length - len(stop))
                    state = prefix_lengths[-1]
                self._states[index] = state
            if begins:
                return min(begins)
        return None


def _prefix_lengths(text: str) -> list[int]:
    """Return for each prefix of a text the length of its longest proper end that is also its beginning."""
    lengths = [0] * len(text)
    length = 0
    for index in range(1, len(text)):
        while length and text[index] != text[length]:
            length = lengths[length - 1]
        length += text[index] == text[length]
        lengths[index] = length
    return lengths
