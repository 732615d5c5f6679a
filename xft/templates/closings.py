"""Locate the end of a target span: the special token at which the model stops, inclusive.

The *closing*, the text that closes an answer, can depend on the position of the answer. gpt-oss writes
``<|return|>`` after the last answer, ``<|end|>`` after other answers, and ``<|call|>`` after a tool call.
Llama 3.1 may write ``<|eom_id|>`` after a call. Command R7B closes an answer with two tokens. All closings
are derived from renderings of short conversations.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from xft.errors import TemplateError
from xft.templates.openings import common_prefix
from xft.types import Message, Messages, ToolCall

_QUESTION, _ANSWER, _NEXT, _ARGUMENT = (
    "question",
    "\ue000answer\ue001",
    "\ue000next\ue001",
    "\ue000argument\ue001",
)


@dataclass(frozen=True, slots=True)
class Closings:
    """Texts that close the assistant's turn.

    Attributes:
        last: text that closes the last answer.
        earlier: text that closes an earlier answer; empty if no special token closes it.
        calls: special tokens that may close a tool call.
    """

    last: str
    earlier: str
    calls: tuple[str, ...] = ()

    def end(self, after: str, index: int, message: Message) -> int:
        """Return the end of the target span, as an offset in the text after the content of an answer.

        Args:
            after: text from the end of the answer's content to the content of the next message.
            index: index of the message.
            message: the answer.

        Raises:
            TemplateError: The template does not close the turn.
        """
        closings = [closing for closing in (self.last, self.earlier) if closing]
        starts = [closing for closing in closings if after.startswith(closing)]
        if starts:
            return len(max(starts, key=len))
        if message.tool_calls:
            # The text that closes the call (a bracket, a tag) precedes the text that closes the turn.
            for candidates in (closings, self.calls):
                positions = [(after.find(text), text) for text in candidates if text in after]
                if positions:
                    position, text = min(positions)
                    return position + len(text)
        fix = "" if self.earlier else "; template.mask_history=True trains on the last answer only"
        raise TemplateError(
            f"turn {index + 1}: the template does not close it with {self.last!r}, so the model would not "
            f"learn to stop there{fix}",
            key="template",
            expected=self.last,
            fix=fix,
        )


def find_closings(
    render: Callable[[Messages], str], specials: Iterable[str], always_opens: bool
) -> Closings:
    """Find the texts that close an answer.

    Args:
        render: renders messages.
        specials: special tokens of the tokenizer.
        always_opens: whether the template opens an answer after every conversation, as Llama 3 does.

    Raises:
        TemplateError: No special token closes an answer.
    """
    specials = {token for token in specials if token.strip()}
    question, answer = Message("user", _QUESTION), Message("assistant", _ANSWER)
    text = render([question, answer])
    tail = text.rpartition(_ANSWER)[2]
    user_closing = _up_to_first(text.rpartition(_ANSWER)[0].rpartition(_QUESTION)[2], specials).strip()
    earlier = ""
    with suppress(TemplateError):  # a template may support a single exchange only
        earlier = _shorten(_earlier(render, tail, specials, always_opens), user_closing)
    if earlier and tail.startswith(earlier):
        last = earlier
    else:
        last = _shorten((_up_to_first if always_opens else _up_to_last)(tail, specials), user_closing)
    if not last:
        raise TemplateError(
            f"template: no special token closes an answer (the text after it is {tail!r}), so the model would never "
            "learn to stop; use another template",
            key="template",
            got=tail,
            expected="a special token",
        )
    with suppress(TemplateError):
        return Closings(last, earlier, _call_closings(render, specials))
    return Closings(last, earlier)


def _earlier(render: Callable[[Messages], str], tail: str, specials: set[str], always_opens: bool) -> str:
    """Return the text that closes an answer before a user message."""
    question, answer, following = (
        Message("user", _QUESTION),
        Message("assistant", _ANSWER),
        Message("user", _NEXT),
    )
    text = render([question, answer, following])
    between = text.partition(_ANSWER)[2].partition(_NEXT)[0]
    closing = "" if always_opens else _up_to_last(between[: common_prefix(tail, between)], specials)
    if closing:
        return closing
    # The message header follows the closing text. It precedes the first message too.
    header = render([following]).partition(_NEXT)[0]
    closed = between[: len(between) - common_prefix(between[::-1], header[::-1])]
    if closed:
        return _up_to_last(closed, specials)
    # If a default system message has the same closing text as an answer, the common suffix contains it,
    # although it is not part of the header.
    first = _up_to_first(between, specials)
    opening = text.partition(_QUESTION)[2].partition(_ANSWER)[0]
    return first if tail.startswith(first) or opening.startswith(first) else ""


def _call_closings(render: Callable[[Messages], str], specials: set[str]) -> tuple[str, ...]:
    """Return the special token that closes a tool call both with and without a result after it."""
    call = ToolCall("function", {"argument": _ARGUMENT}, "call00001")
    turns = [Message("user", _QUESTION), Message("assistant", "", tool_calls=(call,))]
    text = render(turns)
    if _ARGUMENT not in text:
        return ()
    tail = text.rpartition(_ARGUMENT)[2]
    result = Message("tool", _NEXT, name="function", tool_call_id=call.id)
    between = render([*turns, result]).rpartition(_ARGUMENT)[2].partition(_NEXT)[0]
    common = _up_to_last(between[: common_prefix(tail, between)], specials)
    tokens = [token for token in specials if common.endswith(token)]
    return (max(tokens, key=len),) if tokens else ()


def _shorten(closing: str, user_closing: str) -> str:
    """Remove the text after the token that closes user messages: the model stops at that token."""
    head, token, _ = closing.partition(user_closing) if user_closing else (closing, "", "")
    return head + token


def _up_to_last(text: str, specials: set[str]) -> str:
    ends = [text.rfind(token) + len(token) for token in specials if token in text]
    return text[: max(ends, default=0)]


def _up_to_first(text: str, specials: set[str]) -> str:
    starts = [(text.find(token), -len(token)) for token in specials if token in text]
    if not starts:
        return ""
    start, length = min(starts)
    return text[: start - length]
