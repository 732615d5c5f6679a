"""Locate the end of a target span: the special token at which the model stops, inclusive.

The *turn end*, the text that ends an answer, can depend on the position of the answer. gpt-oss writes
``<|return|>`` after the last answer, ``<|end|>`` after other answers, and ``<|call|>`` after a tool call.
Llama 3.1 may write ``<|eom_id|>`` after a call. Command R7B ends an answer with two tokens. All turn ends
are derived from renderings of short conversations.

Some templates leave the last answer of a conversation open, because a request to continue it needs that.
Their models stop at the token that follows an earlier answer: GLM 4 at the header of the next message,
``<|user|>`` or, after a call, ``<|observation|>``; Apertus and Qwen 1.5 at an end-of-turn token. This *omitted
end* is appended to the rendered text.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from xft.errors import TemplateError
from xft.templates.answer_prefixes import common_prefix
from xft.types import Message, Messages, ToolCall

_QUESTION, _ANSWER, _NEXT, _ARGUMENT = (
    "question",
    "\ue000answer\ue001",
    "\ue000next\ue001",
    "\ue000argument\ue001",
)


@dataclass(frozen=True, slots=True)
class TurnEnds:
    """Texts that end the assistant's turn.

    Attributes:
        last: text that ends the last answer.
        earlier: text that ends an earlier answer; empty if no special token ends it.
        call_end_tokens: special tokens that may end a tool call.
    """

    last: str
    earlier: str
    call_end_tokens: tuple[str, ...] = ()

    def find_end(self, after: str, index: int, message: Message) -> int:
        """Return the end of the target span, as an offset in the text after the content of an answer.

        Args:
            after: text from the end of the answer's content to the content of the next message.
            index: index of the message.
            message: the answer.

        Raises:
            TemplateError: The template does not end the turn.
        """
        turn_ends = [turn_end for turn_end in (self.last, self.earlier) if turn_end]
        starts = [turn_end for turn_end in turn_ends if after.startswith(turn_end)]
        if starts:
            return len(max(starts, key=len))
        stripped = after.lstrip()
        starts = [turn_end.lstrip() for turn_end in turn_ends if stripped.startswith(turn_end.lstrip())]
        if starts:  # a template may omit the line break after an empty answer
            return len(after) - len(stripped) + len(max(starts, key=len))
        if message.tool_calls:
            # The text that ends the call (a bracket, a tag) precedes the text that ends the turn.
            for candidates in (turn_ends, self.call_end_tokens):
                positions = [(after.find(text), text) for text in candidates if text in after]
                if positions:
                    position, text = min(positions)
                    return position + len(text)
        fix = "" if self.earlier else "; template.mask_history=True trains on the last answer only"
        raise TemplateError(
            f"turn {index + 1}: the template does not end it with {self.last!r}, so the model would not "
            f"learn to stop there{fix}",
            key="template",
            expected=self.last,
            fix=fix,
        )


@dataclass(frozen=True, slots=True)
class OmittedEnds:
    """Texts that the template writes after an earlier answer or call, but omits after the last one.

    Attributes:
        answer: text that ends an answer without tool calls; empty if it is not omitted.
        call: text that ends a tool call; empty if it is not omitted.
    """

    answer: str = ""
    call: str = ""

    def after(self, messages: Messages) -> str:
        """Return the omitted end of a conversation."""
        if messages[-1].role != "assistant":
            return ""
        return self.call if messages[-1].tool_calls else self.answer


def find_omitted_ends(
    render: Callable[[Messages], str], specials: Iterable[str], bos_token: str | None
) -> OmittedEnds:
    """Find the turn ends that the template omits at the end of a conversation.

    Args:
        render: renders messages.
        specials: special tokens of the tokenizer.
        bos_token: BOS token, which ends no answer.
    """
    specials = {token for token in specials if token.strip()}
    turns = [Message("user", _QUESTION), Message("assistant", _ANSWER)]
    with suppress(TemplateError):
        _, answer, tail = render(turns).rpartition(_ANSWER)
        between = render([*turns, Message("user", _NEXT)]).partition(_ANSWER)[2].partition(_NEXT)[0]
        answer_end = _up_to_first(between, specials)
        if not answer or _up_to_first(tail, specials) or answer_end.strip() not in specials - {bos_token}:
            return OmittedEnds()
        with suppress(TemplateError):
            tail, between = _texts_after_call(render)
            rest = between.removeprefix(tail)
            end = _up_to_first(rest, specials)
            if rest != between and answer_end not in tail and end.strip() in specials:
                return OmittedEnds(answer_end, end)
        return OmittedEnds(answer_end)
    return OmittedEnds()


def find_turn_ends(
    render: Callable[[Messages], str], specials: Iterable[str], always_prompts: bool
) -> TurnEnds:
    """Find the texts that end an answer.

    Args:
        render: renders messages.
        specials: special tokens of the tokenizer.
        always_prompts: whether every rendered conversation ends with the generation prompt, as with Llama 3.

    Raises:
        TemplateError: No special token ends an answer.
    """
    specials = {token for token in specials if token.strip()}
    question, answer = Message("user", _QUESTION), Message("assistant", _ANSWER)
    text = render([question, answer])
    if _ANSWER not in text:
        raise TemplateError(
            "template: it drops the answers, or expects another form of content than text, such as a list of parts; "
            "use another template",
            key="template",
            expected="a template that renders the content of answers as text",
        )
    tail = text.rpartition(_ANSWER)[2]
    user_end_token = _user_end_token(render, text, specials)
    earlier = ""
    with suppress(TemplateError):  # a template may support a single exchange only
        earlier = _shorten(_earlier(render, tail, specials, always_prompts, user_end_token), user_end_token)
    if earlier and tail.startswith(earlier):
        last = earlier
    else:
        last = _shorten((_up_to_first if always_prompts else _up_to_last)(tail, specials), user_end_token)
    if not last:
        raise TemplateError(
            f"template: no special token ends an answer (the text after it is {tail!r}), so the model would never "
            "learn to stop; use another template",
            key="template",
            got=tail,
            expected="a special token",
        )
    with suppress(TemplateError):
        return TurnEnds(last, earlier, _call_end_tokens(render, specials, user_end_token))
    return TurnEnds(last, earlier)


def _user_end_token(render: Callable[[Messages], str], answered: str, specials: set[str]) -> str:
    """Return the special token that ends user messages; empty if there is none.

    Args:
        render: renders messages.
        answered: rendered question and answer.
        specials: special tokens of the tokenizer.
    """
    question, following = Message("user", _QUESTION), Message("user", _NEXT)
    after = answered.rpartition(_ANSWER)[0].rpartition(_QUESTION)[2]
    with suppress(TemplateError):  # a template may require that roles alternate
        alone = render([question]).rpartition(_QUESTION)[2]
        between = render([question, following]).rpartition(_NEXT)[0].rpartition(_QUESTION)[2]
        if alone and after.startswith(alone) and between.startswith(alone):
            end = _up_to_last(alone, specials)
            return max((token for token in specials if end.endswith(token)), key=len, default="")
    return _up_to_first(after, specials).strip()


def _earlier(
    render: Callable[[Messages], str],
    tail: str,
    specials: set[str],
    always_prompts: bool,
    user_end_token: str,
) -> str:
    """Return the text that ends an answer before a user message."""
    question, answer, following = (
        Message("user", _QUESTION),
        Message("assistant", _ANSWER),
        Message("user", _NEXT),
    )
    text = render([question, answer, following])
    between = text.partition(_ANSWER)[2].partition(_NEXT)[0]
    common = between[: common_prefix(tail, between)]
    if always_prompts:
        # ``common`` may extend into the generation prompt.
        turn_end = common if user_end_token and user_end_token in common else ""
    else:
        turn_end = _up_to_last(common, specials)
    if turn_end:
        return turn_end
    # The message header follows the turn end. It precedes the first message too.
    header = render([following]).partition(_NEXT)[0]
    ended = between[: len(between) - common_prefix(between[::-1], header[::-1])]
    if ended:
        return _up_to_last(ended, specials)
    # If a default system message has the same turn end as an answer, the common suffix contains it,
    # although it is not part of the header.
    first = _up_to_first(between, specials)
    prefix = text.partition(_QUESTION)[2].partition(_ANSWER)[0]
    return first if tail.startswith(first) or prefix.startswith(first) else ""


def _call_end_tokens(
    render: Callable[[Messages], str], specials: set[str], user_end_token: str
) -> tuple[str, ...]:
    """Return the special token that ends a tool call both with and without a result after it."""
    tail, between = _texts_after_call(render)
    common = _up_to_last(_shorten(between[: common_prefix(tail, between)], user_end_token), specials)
    tokens = [token for token in specials if common.endswith(token)]
    return (max(tokens, key=len),) if tokens else ()


def _texts_after_call(render: Callable[[Messages], str]) -> tuple[str, str]:
    """Return the text after the arguments of a call, to the end and to the result of the call."""
    call = ToolCall("function", {"argument": _ARGUMENT}, "call00001")
    turns = [Message("user", _QUESTION), Message("assistant", "", tool_calls=(call,))]
    _, argument, tail = render(turns).rpartition(_ARGUMENT)
    if not argument:
        return "", ""
    result = Message("tool", _NEXT, name="function", tool_call_id=call.id)
    return tail, render([*turns, result]).rpartition(_ARGUMENT)[2].partition(_NEXT)[0]


def _shorten(turn_end: str, user_end_token: str) -> str:
    """Remove the text after the token that ends user messages: the model stops at that token."""
    head, token, _ = turn_end.partition(user_end_token) if user_end_token else (turn_end, "", "")
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
