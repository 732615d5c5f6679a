"""Render conversations through a Jinja chat template, and find the answers in the text.

There is one path for all templates: the tokenizer's own, or a source of the library put in its
place. The text is what ``apply_chat_template`` gives. Where an answer stands in it is seen from a
trace of the rendering (``tracing``), which also gives a plan for all conversations of the same
shape (``plans``); where a template cannot be traced, from renderings in which something else is
said (``spans``). This needs no ``{% generation %}`` block, and holds for templates that rewrite
earlier turns, strip white space, or add a default system text or a date.

What a template cannot represent is refused: tools that it does not read, tool calls, contents and
tool results that it does not show. Reasoning goes to the template as a field of its own where it reads
one (and may be left out by it, as Qwen3 does in earlier turns), otherwise before the content, between
``<think>`` and ``</think>``.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any

from xft.errors import TemplateError
from xft.templates.coverage_check import check_shown
from xft.templates.delimiters import Turn
from xft.templates.jinja_env import (
    Renderer,
    as_turns,
    check_messages,
    names_in,
    special_tokens_of,
    with_inline_reasoning,
)
from xft.templates.render_cache import MAX_TURNS, Plans, shape, values_of
from xft.templates.spans import find_spans
from xft.types import Message, Messages, Segment, Tokenizer, ToolCall, Tools

_MARK = "\ue000answer\ue001"
_QUESTION = Message("user", "question")


class ChatTemplate:
    """A chat template that is not tied to a tokenizer yet.

    Args:
        source: the Jinja source; ``None`` takes the tokenizer's own.
    """

    def __init__(self, source: str | None = None) -> None:
        self.source = source

    def bind(self, tokenizer: Tokenizer, moment: datetime | None = None) -> "BoundTemplate":
        """Tie the template to a tokenizer, and check that the two fit.

        A source that is not the tokenizer's own and says nothing of BOS is put behind
        ``{{ bos_token }}`` where the tokenizer begins every text with BOS: chat text is tokenised
        without the tokenizer's additions, and the model expects exactly one.

        Args:
            tokenizer: whose special tokens the template writes.
            moment: the date for templates that write one; by default now.

        Raises:
            TemplateError: the tokenizer has no template of its own, or nothing ends an answer.
        """
        if self.source:
            return BoundTemplate(tokenizer, _with_bos(self.source, tokenizer), moment)
        own = tokenizer.chat_template
        if isinstance(own, dict) and "default" in own:
            own = own["default"]
        if not isinstance(own, str):
            raise TemplateError(
                "template: the tokenizer has no chat template of its own; name one in the config, "
                "for instance template='chatml' (`xft list templates` shows all)"
            )
        return BoundTemplate(tokenizer, own, moment)


class BoundTemplate:
    """A chat template and the tokenizer that it renders for.

    Attributes:
        source: the Jinja source.
        header: what opens the assistant's turn, e.g. ``<|im_start|>assistant\\n``. May be empty.
        end_of_turn: what closes it and is trained, e.g. ``<|im_end|>``.
        dated: whether the template can write today's date, which then goes into the data. It is
            the date of binding for as long as the object lives, and the template's own default
            where it has one that does not ask for today.
    """

    def __init__(self, tokenizer: Tokenizer, source: str, moment: datetime | None = None) -> None:
        self.tokenizer = tokenizer
        self.source = source
        self._moment = moment or datetime.now()
        self._renderer = Renderer(source, special_tokens_of(tokenizer), self._moment)
        self.dated = self._renderer.dated
        plain = self._text([_QUESTION])
        opened = self._text([_QUESTION], generation=True)
        answered = self._text([_QUESTION, Message("assistant", _MARK)])
        before, _, behind = answered.partition(_MARK)
        if not opened.startswith(plain) or not answered.startswith(opened):
            raise TemplateError(
                f"template: what opens an answer when the model is asked ({opened[-60:]!r}) is not what "
                f"stands before an answer in training ({before[-60:]!r}); name another template in the config"
            )
        self.header = opened[len(plain) :]
        specials = _special_tokens(tokenizer)
        self.end_of_turn = _find_end_of_turn(behind, specials)
        self._turn = Turn(
            self.header,
            self.end_of_turn,
            tuple(sorted(each for each in specials if each not in opened)),
            before[len(opened) :],
        )
        self._plans = Plans(self._renderer, self._turn)
        self._offered: set[tuple[str, ...]] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        # Plans hold functions, which cannot be sent to another process; they are made anew there.
        return BoundTemplate, (self.tokenizer, self.source, self._moment)

    @property
    def stop_token(self) -> str:
        """The special token in ``end_of_turn``, at which generation stops."""
        return self.end_of_turn.strip()

    @cached_property
    def stop_tokens(self) -> tuple[str, ...]:
        """``stop_token``, and the special token behind a tool call where that is another one."""
        call = Message("assistant", "", True, tool_calls=(ToolCall("function", {"argument": "value"}),))
        try:
            pieces = self.segments([_QUESTION, call, Message("tool", "result")])
        except TemplateError:
            return (self.stop_token,)
        closers = [each for each in self._turn.closers if pieces[1].text.endswith(each)]
        return tuple(dict.fromkeys((self.stop_token, *closers)))

    def render(self, messages: Messages, generation: bool = False, tools: Tools = ()) -> str:
        """The text of a conversation.

        Args:
            messages: the turns.
            generation: end with what opens the assistant's turn.
            tools: the functions that the assistant may call.

        Raises:
            TemplateError: the template refuses the conversation, or leaves out a part of it.
        """
        messages = self._prepared(messages)
        plain = check_messages(messages, tools)
        return self._checked(messages, plain, generation)

    def segments(self, messages: Messages, tools: Tools = ()) -> list[Segment]:
        """Cut the text of a conversation into trained and untrained pieces.

        The trained piece of an answer runs from behind the header to the end-of-turn token,
        that token, reasoning and tool calls included: whatever stands there in the text. An answer
        whose reasoning the template leaves out trains what is left. Joined, the pieces are exactly
        ``render(messages, tools=tools)``.

        Raises:
            TemplateError: as :meth:`render`; or an answer cannot be found in the text, or is not closed.
        """
        messages = self._prepared(messages)
        key = None
        if not tools and len(messages) <= MAX_TURNS:
            for each in messages:
                if each.tool_calls or each.name:
                    break
            else:
                key = shape(messages)
                values = values_of(messages)
                known, plan = self._plans.find(key, values)
                if plan is not None:
                    segments = plan.fill(values)
                    if not plan.complete:
                        check_shown("".join([each.text for each in segments]), messages, ())
                    return segments
                if known:
                    return self._marked(messages, [], self._checked(messages, check_messages(messages, ())))
        offered = check_messages(messages, tools)
        full = self._checked(messages, offered)
        return self._plans.make(messages, offered, full, key) or self._marked(messages, offered, full)

    def _prepared(self, messages: Messages) -> Messages:
        """The conversation with its reasoning where the template looks for it."""
        if self._renderer.reads_reasoning or not _reasons(messages):
            return messages
        return [
            replace(each, content=with_inline_reasoning(each), reasoning="") if each.reasoning else each
            for each in messages
        ]

    def _text(self, messages: Messages, tools: Sequence[Any] = (), generation: bool = False) -> str:
        return self._renderer.text(as_turns(messages), tools, generation)

    def _checked(self, messages: Messages, tools: Sequence[Any], generation: bool = False) -> str:
        text = self._text(messages, tools, generation)
        if tools:
            # Whether tools are shown follows from who speaks; it is looked at once for each way.
            roles = tuple([each.role for each in messages])
            if not self._renderer.reads_tools or (
                roles not in self._offered and text == self._text(messages, (), generation)
            ):
                raise TemplateError(
                    "tools: the chat template does not show them, so the model would learn to call what it "
                    "was never offered; name a template that knows tools in the config, or take them away"
                )
            if len(self._offered) < 10_000 and len(roles) <= MAX_TURNS:
                self._offered.add(roles)
        check_shown(text, messages, tools)
        return text

    def _marked(self, messages: Messages, tools: Sequence[Any], full: str) -> list[Segment]:
        """The segments of a conversation whose rendering cannot be traced."""
        spans = find_spans(full, messages, lambda marked: self._text(marked, tools), self._turn)
        segments: list[Segment] = []
        done = 0
        for start, end in spans:
            segments += [Segment(full[done:start], False), Segment(full[start:end], True)]
            done = end
        segments.append(Segment(full[done:], False))
        return [each for each in segments if each.text]


def _reasons(messages: Messages) -> bool:
    for each in messages:  # noqa: SIM110 - three times as fast as any(), in the innermost path
        if each.reasoning:
            return True
    return False


def _special_tokens(tokenizer: Tokenizer) -> set[str]:
    """Every token that the tokenizer never splits."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {each for each in tokenizer.all_special_tokens if each} | {
        str(each.content) for each in added.values() if each.content
    }


def _find_end_of_turn(tail: str, specials: set[str]) -> str:
    found = [(tail.index(each), -len(each), each) for each in specials if each in tail]
    if not found:
        raise TemplateError(
            f"template: no special token closes an answer (behind it stands {tail!r}), so the "
            "model would never learn to stop; name another template in the config"
        )
    position, _, token = min(found)
    return tail[: position + len(token)]


def _with_bos(source: str, tokenizer: Tokenizer) -> str:
    bos: str | None = getattr(tokenizer, "bos_token", None)
    if not bos or "bos_token" in names_in(source) or bos in source:
        return source
    ids = list(tokenizer("a")["input_ids"])
    begins = ids[:1] == [tokenizer.convert_tokens_to_ids(bos)]
    return "{{ bos_token }}" + source if begins else source
