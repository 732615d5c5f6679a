"""Render conversations through a Jinja chat template, and find the answers in the text.

There is one path for all templates: the tokenizer's own, or a source of the library put in its
place. The text is what ``apply_chat_template`` gives. Where an answer stands in it is found by
rendering once more with that answer replaced by a mark: the two texts differ in the answer and
nowhere else, whatever the template adds before, after or between. This needs no
``{% generation %}`` block, and holds for templates that rewrite earlier turns, strip white
space, or add a default system text or a date.
"""

from itertools import islice
from typing import Any

from xft.errors import TemplateError
from xft.types import Conversation, Message, Segment, Tokenizer

_PRIVATE_USE = range(0xE000, 0xF900)
_MARK = "\ue000answer\ue001"


class ChatTemplate:
    """A chat template that is not tied to a tokenizer yet.

    Args:
        source: the Jinja source; ``None`` takes the tokenizer's own.
    """

    def __init__(self, source: str | None = None) -> None:
        self.source = source

    def bind(self, tokenizer: Tokenizer) -> "BoundTemplate":
        """Tie the template to a tokenizer, and check that the two fit.

        Raises:
            TemplateError: the tokenizer has no template of its own, or nothing ends an answer.
        """
        source = self.source or tokenizer.chat_template
        if not isinstance(source, str):
            raise TemplateError(
                "template: the tokenizer has no chat template of its own; name one in the config, "
                "for instance template='chatml' (`xft list templates` shows all)"
            )
        return BoundTemplate(tokenizer, source)


class BoundTemplate:
    """A chat template and the tokenizer that it renders for.

    Attributes:
        source: the Jinja source.
        header: what opens the assistant's turn, e.g. ``<|im_start|>assistant\\n``. May be empty.
        end_of_turn: what closes it and is trained, e.g. ``<|im_end|>``.
    """

    def __init__(self, tokenizer: Tokenizer, source: str) -> None:
        self.tokenizer = tokenizer
        self.source = source
        question = [Message("user", "question")]
        plain = self.render(question)
        opened = self.render(question, generation=True)
        answered = self.render([*question, Message("assistant", _MARK)])
        if not opened.startswith(plain) or not answered.startswith(opened):
            raise TemplateError(
                "template: what opens an answer when the model is asked "
                f"({opened[-60:]!r}) is not what stands before an answer in training "
                f"({answered[: answered.index(_MARK)][-60:]!r}); name another template in the config"
            )
        self.header = opened[len(plain) :]
        self.end_of_turn = self._find_end_of_turn(answered.partition(_MARK)[2])

    @property
    def stop_token(self) -> str:
        """The special token in ``end_of_turn``, at which generation stops."""
        return self.end_of_turn.strip()

    def render(self, conversation: Conversation, generation: bool = False) -> str:
        """The text of a conversation.

        Args:
            conversation: the turns.
            generation: end with what opens the assistant's turn.

        Raises:
            TemplateError: the template refuses the conversation.
        """
        turns: list[dict[str, Any]] = [
            {"role": each.role, "content": each.content} for each in conversation
        ]
        try:
            text = self.tokenizer.apply_chat_template(
                turns,
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=generation,
                return_dict=False,
            )
        except Exception as error:
            roles = ", ".join(each.role for each in conversation)
            raise TemplateError(f"the chat template refuses the turns ({roles}): {error}") from error
        return str(text)

    def segments(self, conversation: Conversation) -> list[Segment]:
        """Cut the text of a conversation into trained and untrained pieces.

        The trained piece of an answer runs from behind the header to the end-of-turn token,
        that token included. Joined, the pieces are exactly ``render(conversation)``.

        Raises:
            TemplateError: an answer cannot be found in the text, or is not closed.
        """
        full = self.render(conversation)
        pieces: list[Segment] = []
        done = 0
        for index, message in enumerate(conversation):
            if not message.trained:
                continue
            if message.role != "assistant":
                raise TemplateError(
                    f"turn {index + 1}: only the assistant's turns can be trained, not the {message.role}'s"
                )
            start, end = self._span(full, conversation, index)
            if start < done:
                raise TemplateError(f"turn {index + 1}: the template merges two answers into one")
            pieces += [Segment(full[done:start], False), Segment(full[start:end], True)]
            done = end
        pieces.append(Segment(full[done:], False))
        return [each for each in pieces if each.text]

    def _span(self, full: str, conversation: Conversation, index: int) -> tuple[int, int]:
        """Where the trained piece of turn ``index`` begins and ends in ``full``."""
        marked = list(conversation)
        marked[index] = Message("assistant", _mark(conversation))
        other = self.render(marked)
        begin = _common_prefix(full, other)
        end = len(full) - _common_suffix(full[begin:], other[begin:])
        start = full.rfind(self.header, 0, begin) + len(self.header) if self.header else begin
        if self.header and start < len(self.header):
            raise TemplateError(f"turn {index + 1}: the template does not open it with {self.header!r}")
        if not full.startswith(self.end_of_turn, end):
            raise TemplateError(
                f"turn {index + 1}: the template does not close it with {self.end_of_turn!r}, "
                "so the model would not learn to stop there"
            )
        return start, end + len(self.end_of_turn)

    def _find_end_of_turn(self, tail: str) -> str:
        specials = set(self.tokenizer.all_special_tokens)
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        specials |= {str(each.content) for each in added.values()}
        found = [(tail.index(each), -len(each), each) for each in specials if each and each in tail]
        if not found:
            raise TemplateError(
                f"template: no special token closes an answer (behind it stands {tail!r}), so the "
                "model would never learn to stop; name another template in the config"
            )
        position, _, token = min(found)
        return tail[: position + len(token)]


def _mark(conversation: Conversation) -> str:
    """A text that begins and ends with characters that stand nowhere in the conversation, so that
    it shares neither its beginning nor its end with the answer that it replaces."""
    said = {character for each in conversation for character in each.content}
    first, last = islice((chr(code) for code in _PRIVATE_USE if chr(code) not in said), 2)
    return f"{first}answer{last}"


def _common_prefix(left: str, right: str) -> int:
    """Length of the longest common prefix, by bisection: slices compare at C speed."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_suffix(left: str, right: str) -> int:
    return _common_prefix(left[::-1], right[::-1])
