"""Render conversations through a Jinja chat template, and locate the target spans in the text.

There is one path for all templates: the tokenizer's own, or a source of the library. The text equals that of
``apply_chat_template``. Target spans are located by rendering the conversation again with sentinels in place of the
answers (:mod:`xft.templates.spans`). This needs no ``{% generation %}`` block, and holds for templates that rewrite
earlier turns, strip white space, or add a default system message or a date.

Content that a template cannot represent is an error: tools that it does not read, tool calls, messages and tool
results that it drops. Reasoning is passed as a field if the template reads one (the template may drop it, as Qwen3
does in earlier turns), and otherwise before the content, between ``<think>`` and ``</think>``.

Measured: an earlier version traced each template symbolically and filled in compiled renderings. Preparing the
rows of Alpaca and Glaive with the templates of Qwen3 and Llama 3 takes 1.05 to 1.27 times as long without it.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from xft.errors import TemplateError
from xft.templates.coverage_check import check_content_is_rendered
from xft.templates.delimiters import TurnDelimiters
from xft.templates.jinja_env import TemplateRenderer, special_tokens_of, undeclared_names
from xft.templates.message_fields import check_messages, with_readable_reasoning
from xft.templates.spans import find_spans
from xft.types import Message, Messages, Segment, Tokenizer, ToolCall, Tools

_SENTINEL = "\ue000answer\ue001"
_PROBE_PROMPT = Message("user", "question")
_MAX_CACHED_ROLES, _MAX_CACHED_TURNS = 10_000, 64


class ChatTemplate:
    """A chat template that is not bound to a tokenizer.

    Args:
        source: Jinja source; ``None`` takes the tokenizer's own template.
    """

    def __init__(self, source: str | None = None) -> None:
        self.source = source

    def bind(self, tokenizer: Tokenizer, now: datetime | None = None) -> "BoundTemplate":
        """Bind the template to a tokenizer, and check that the two fit.

        A library source that does not mention BOS is prefixed with ``{{ bos_token }}`` if the tokenizer starts every
        text with BOS: rendered text is tokenized without special tokens, and the model expects exactly one BOS.

        Args:
            tokenizer: tokenizer whose special tokens the template writes.
            now: date for templates that write one; the current date by default.

        Raises:
            TemplateError: The tokenizer has no template, or no special token ends an answer.
        """
        if self.source:
            return BoundTemplate(tokenizer, _with_bos(self.source, tokenizer), now)
        source = tokenizer.chat_template
        if isinstance(source, dict) and "default" in source:
            source = source["default"]
        if not isinstance(source, str):
            raise TemplateError(
                "template: the tokenizer has no chat template; set one in the config, for instance "
                "template='chatml' (`xft list templates` lists all)",
                key="template",
            )
        return BoundTemplate(tokenizer, source, now)


class BoundTemplate:
    """A chat template and the tokenizer that it renders for.

    Attributes:
        source: Jinja source.
        generation_prompt: text that opens the assistant's turn, e.g. ``<|im_start|>assistant\\n``. May be empty.
        end_of_turn: text that closes it and is a target, e.g. ``<|im_end|>``.
        uses_current_date: whether the template can write the current date, which then becomes part of the data. It is
            the date of binding for the lifetime of the object.
    """

    def __init__(self, tokenizer: Tokenizer, source: str, now: datetime | None = None) -> None:
        self.tokenizer = tokenizer
        self.source = source
        self._now = now or datetime.now()
        self._renderer = TemplateRenderer(source, special_tokens_of(tokenizer), self._now)
        self.uses_current_date = self._renderer.uses_current_date
        plain = self._text([_PROBE_PROMPT])
        prompted = self._text([_PROBE_PROMPT], generation=True)
        answered = self._text([_PROBE_PROMPT, Message("assistant", _SENTINEL)])
        before, _, after = answered.partition(_SENTINEL)
        if not prompted.startswith(plain) or not answered.startswith(prompted):
            raise TemplateError(
                f"template: the generation prompt ({prompted[-60:]!r}) differs from the text before an answer in "
                f"training ({before[-60:]!r}); use another template",
                key="template",
                got=before[-60:],
                expected=prompted[-60:],
            )
        self.generation_prompt = prompted[len(plain) :]
        specials = _special_tokens(tokenizer)
        self.end_of_turn = _find_end_of_turn(after, specials)
        self._delimiters = TurnDelimiters(
            self.generation_prompt,
            self.end_of_turn,
            tuple(sorted(token for token in specials if token not in prompted)),
            before[len(prompted) :],
        )
        self._roles_with_tools: set[tuple[str, ...]] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled templates cannot be pickled; another process compiles the source again.
        return BoundTemplate, (self.tokenizer, self.source, self._now)

    @property
    def stop_token(self) -> str:
        """The special token in ``end_of_turn``, at which generation stops."""
        return self.end_of_turn.strip()

    @cached_property
    def stop_tokens(self) -> tuple[str, ...]:
        """``stop_token``, and the special token after a tool call if it is another one."""
        call = Message("assistant", "", True, tool_calls=(ToolCall("function", {"argument": "value"}),))
        try:
            segments = self.segments([_PROBE_PROMPT, call, Message("tool", "result")])
        except TemplateError:
            return (self.stop_token,)
        closers = [token for token in self._delimiters.closers if segments[1].text.endswith(token)]
        return tuple(dict.fromkeys((self.stop_token, *closers)))

    def render(self, messages: Messages, generation: bool = False, tools: Tools = ()) -> str:
        """Render a conversation.

        Args:
            messages: the messages.
            generation: end with the generation prompt.
            tools: tools that the assistant may call.

        Raises:
            TemplateError: The template refuses the conversation, or drops a part of it.
        """
        messages = with_readable_reasoning(messages, self._renderer.names)
        return self._checked_text(messages, check_messages(messages, tools), generation)

    def segments(self, messages: Messages, tools: Tools = ()) -> list[Segment]:
        """Split the text of a conversation into target and non-target segments.

        The target segment of an answer runs from the end of the generation prompt to the end-of-turn token,
        including that token, reasoning and tool calls. If the template drops the reasoning, the rest is the target.
        The segments, joined, equal ``render(messages, tools=tools)``.

        Raises:
            TemplateError: As in :meth:`render`; or an answer is not in the text, or is not closed.
        """
        messages = with_readable_reasoning(messages, self._renderer.names)
        plain_tools = check_messages(messages, tools)
        text = self._checked_text(messages, plain_tools)
        spans = find_spans(text, messages, lambda marked: self._text(marked, plain_tools), self._delimiters)
        segments: list[Segment] = []
        position = 0
        for start, end in spans:
            segments += [Segment(text[position:start], False), Segment(text[start:end], True)]
            position = end
        segments.append(Segment(text[position:], False))
        return [segment for segment in segments if segment.text]

    def _text(self, messages: Messages, tools: Sequence[Any] = (), generation: bool = False) -> str:
        return self._renderer.render(messages, tools, generation)

    def _checked_text(self, messages: Messages, tools: Sequence[Any], generation: bool = False) -> str:
        text = self._text(messages, tools, generation)
        if tools:
            # Whether tools are rendered depends on the roles only: check each sequence of roles once.
            roles = tuple(message.role for message in messages)
            if "tools" not in self._renderer.names or (
                roles not in self._roles_with_tools and text == self._text(messages, (), generation)
            ):
                raise TemplateError(
                    "tools: the chat template drops them, so the model would learn to call tools that it was not "
                    "offered; use a template that supports tools, or remove them",
                    key="tools",
                )
            if len(self._roles_with_tools) < _MAX_CACHED_ROLES and len(roles) <= _MAX_CACHED_TURNS:
                self._roles_with_tools.add(roles)
        check_content_is_rendered(text, messages, tools)
        return text


def _special_tokens(tokenizer: Tokenizer) -> set[str]:
    """Return all tokens that the tokenizer never splits."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {token for token in tokenizer.all_special_tokens if token} | {
        str(token.content) for token in added.values() if token.content
    }


def _find_end_of_turn(tail: str, specials: set[str]) -> str:
    matches = [(tail.index(token), -len(token), token) for token in specials if token in tail]
    if not matches:
        raise TemplateError(
            f"template: no special token closes an answer (the text after it is {tail!r}), so the model would never "
            "learn to stop; use another template",
            key="template",
            got=tail,
            expected="a special token",
        )
    position, _, token = min(matches)
    return tail[: position + len(token)]


def _with_bos(source: str, tokenizer: Tokenizer) -> str:
    bos: str | None = getattr(tokenizer, "bos_token", None)
    if not bos or "bos_token" in undeclared_names(source) or bos in source:
        return source
    ids = list(tokenizer("a")["input_ids"])
    starts_with_bos = ids[:1] == [tokenizer.convert_tokens_to_ids(bos)]
    return "{{ bos_token }}" + source if starts_with_bos else source
