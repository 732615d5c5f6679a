"""Find texts that spell a special token, characters without a token, and reasoning that a template drops."""

import re
from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from xft.types import Message, Tokenizer

_CONTROL_CHARS = [chr(code) for code in (*range(32), 127)]
"""Control characters. Byte-level vocabularies may lack them: training text has none."""


class TextChecks:
    """Checks of texts with a tokenizer.

    Args:
        tokenizer: tokenizer of the model.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        words = sorted(set(tokenizer.all_special_tokens), key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, words))) if words else None
        lost = "".join(character for character in _CONTROL_CHARS if not _roundtrips(character, tokenizer))
        self._lost = re.compile(f"[{re.escape(lost)}]") if lost else None
        self._unknown = (tokenizer.unk_token, tokenizer.unk_token_id)

    def has_specials(self, texts: Iterable[str]) -> bool:
        """Whether a text spells a special token."""
        return self._specials is not None and any(self._specials.search(text) for text in texts)

    def has_unknown(self, text: str, ids: Iterable[npt.NDArray[Any]]) -> bool:
        """Whether the tokenizer has no token for a character of a text.

        Either it drops the character, or the unknown token is among the ids more often than the text
        spells it (a template may write that token).
        """
        if self._lost is not None and self._lost.search(text):
            return True
        token, token_id = self._unknown
        if not token:
            return False
        count = sum(int((piece == token_id).sum()) for piece in ids)
        return count > 0 and count > text.count(token)


def lacks_reasoning(messages: Iterable[Message], texts: Iterable[str]) -> bool:
    """Return whether the template dropped the reasoning of the last answer in the loss.

    The reasoning of earlier answers is ignored: templates may drop it.

    Args:
        messages: messages of a row.
        texts: rendered text of each sample of the row.
    """
    answers = [message for message in messages if message.is_target]
    thought = answers[-1].reasoning.strip() if answers else ""
    return bool(thought) and not any(thought in text for text in texts)


def _roundtrips(character: str, tokenizer: Tokenizer) -> bool:
    ids = tokenizer(f"a{character}a", add_special_tokens=False)["input_ids"]
    return character in str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
