r"""Locate the start of a target span: the offset at which the model starts to generate.

The *opening* is the text that a template writes between the previous message and an answer. It is compared
with the text that the template writes in the same place with ``add_generation_prompt=True``. The target
span starts at the first difference. Examples, with the common part before the bar::

    Qwen 3           <|im_end|>\n<|im_start|>assistant\n|<think>\n\n</think>\n\n
    Qwen 3.5         <|im_end|>\n<|im_start|>assistant\n<think>\n|\n</think>\n\n
    gpt-oss          <|end|><|start|>assistant|<|channel|>final<|message|>
    Llama 2           [/INST]|␠
    Gemma 4, after the result of a call: <tool_response|>|

An opening is derived from three renderings and cached; later, it is recognized by its text.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xft.errors import TemplateError
from xft.types import Message, Messages

RenderTurns = Callable[[Messages, Sequence[Any], bool], str]
"""Renders messages with tools, and with the generation prompt if the last argument is true."""
_MAX_OPENINGS = 32
_OPENING_TAG = re.compile(r"(<[^<>]+>(?:thought)?|\[[A-Z_]+\])\s*$")
_CLOSING_TAG = re.compile(r"\s*(<[^<>]+>|\[/[A-Z_]+\])")
_THOUGHT_TAG = re.compile(r"<[^<>]*think[^<>]*>|<[^<>]+>thought|\[THINK\]", re.IGNORECASE)
_EMPTY_THOUGHT = r"<think>\s*</think>\s*"


@dataclass(frozen=True, slots=True)
class Opening:
    """Text between the previous message and an answer.

    Attributes:
        text: the text. In a cached opening, a NUL character replaces the name of the called function.
        prompt: number of leading characters that also belong to the generation prompt.
        thought: start and end of an empty thinking block; both are 0 if there is none.
    """

    text: str
    prompt: int
    thought: tuple[int, int] = (0, 0)


class Openings:
    """Find the openings of answers, and cache them by kind of answer.

    Args:
        render: renders messages.
        reads_reasoning: whether the template reads reasoning from a field.
        generation_prompt: fallback opening if the comparison is impossible; may be empty.
    """

    def __init__(self, render: RenderTurns, reads_reasoning: bool, generation_prompt: str) -> None:
        self._render = render
        self._generation_prompt = generation_prompt
        self._empty_thought = re.compile(self._thought_pattern() if reads_reasoning else _EMPTY_THOUGHT)
        self._learned: dict[tuple[Any, ...], list[Opening]] = defaultdict(list)

    def find(
        self, text: str, begin: int, messages: Messages, index: int, tools: Sequence[Any], sentinel: str
    ) -> Opening:
        """Return the opening of an answer.

        Args:
            text: ``render(messages, tools, False)``.
            begin: offset of the first content of the answer: reasoning, text or tool call.
            messages: the conversation.
            index: index of the answer.
            tools: tools of the conversation.
            sentinel: text that does not occur in the conversation.

        Raises:
            TemplateError: The generation prompt differs from the opening.
        """
        message = messages[index]
        previous = messages[index - 1] if index else None
        key = (
            previous and (previous.role, bool(previous.tool_calls)),
            bool(message.reasoning),
            bool(message.content),
            bool(message.tool_calls),
            bool(tools),
        )
        name = message.tool_calls[0].name if message.tool_calls else ""
        known = [replace(opening, text=opening.text.replace("\0", name)) for opening in self._learned[key]]
        matches = [opening for opening in known if text.endswith(opening.text, 0, begin)]
        if matches:
            return max(matches, key=lambda opening: len(opening.text))
        opening = self._learn(text, begin, messages, index, tools, sentinel)
        if opening.text and len(known) < _MAX_OPENINGS:
            start = opening.text.rfind(name, max(opening.prompt, opening.thought[1])) if name else -1
            nameless = (
                f"{opening.text[:start]}\0{opening.text[start + len(name) :]}"
                if start >= 0
                else opening.text
            )
            self._learned[key].append(replace(opening, text=nameless))
        return opening

    def _learn(
        self, text: str, begin: int, messages: Messages, index: int, tools: Sequence[Any], sentinel: str
    ) -> Opening:
        opening, prompt = self._compare(text, begin, messages, index, tools, sentinel)
        common = common_prefix(opening, prompt)
        if opening.rfind("<", 0, common) > opening.rfind(">", 0, common) and common < len(prompt):
            common = opening.rfind("<", 0, common)  # tags are compared as a whole
        thinks = bool(_THOUGHT_TAG.match(prompt, common))
        thinks = thinks or any(
            match.end() >= len(prompt[:common].rstrip()) for match in _THOUGHT_TAG.finditer(prompt[:common])
        )
        if opening[common:] and prompt[common:] and not thinks:
            raise TemplateError(
                f"template: the generation prompt ({prompt[-60:]!r}) differs from the text before an answer in "
                f"training ({opening[-60:]!r}); use another template",
                key="template",
                got=opening[-60:],
                expected=prompt[-60:],
            )
        thoughts = [match.span() for match in self._empty_thought.finditer(opening)]
        return Opening(opening, common, thoughts[-1] if thoughts else (0, 0))

    def _thought_pattern(self) -> str:
        """Return a pattern for the reasoning tags of the template without reasoning between them."""
        reasoning = "\ue000reasoning\ue001"
        turns = [Message("user", "question"), Message("assistant", "answer", reasoning=reasoning)]
        try:
            before, mark, after = self._render(turns, (), False).partition(reasoning)
        except TemplateError:
            return _EMPTY_THOUGHT
        opening, closing = _OPENING_TAG.search(before), _CLOSING_TAG.match(after)
        if not mark or opening is None or closing is None:
            return _EMPTY_THOUGHT
        tags = rf"{re.escape(opening.group(1))}\s*{re.escape(closing.group(1))}\s*"
        return f"{_EMPTY_THOUGHT}|{tags}"

    def _compare(
        self, text: str, begin: int, messages: Messages, index: int, tools: Sequence[Any], sentinel: str
    ) -> tuple[str, str]:
        """Return the texts that can follow the previous message: the opening and the generation prompt."""
        answer = text[begin:]
        marked = list(messages)
        if index:
            marked[index - 1] = replace(marked[index - 1], content=sentinel)
        whole = self._render(marked, tools, False)
        prompt = self._render(marked[:index], tools, True) if index else ""
        _, mark, tail = whole.rpartition(sentinel)
        _, prompt_mark, prompt_tail = prompt.rpartition(sentinel)
        if mark and prompt_mark and tail.endswith(answer):
            opening = tail[: len(tail) - len(answer)]
            if text.endswith(opening, 0, begin):
                return opening, prompt_tail
        # The text depends on the content of the previous message.
        start = text.rfind(self._generation_prompt, 0, begin)
        if self._generation_prompt and start >= 0:
            return text[start:begin], self._generation_prompt
        if not index:
            return "", ""
        raise TemplateError(
            f"turn {index + 1}: the template does not open it with {self._generation_prompt!r}",
            key="template",
            expected=self._generation_prompt,
        )


def common_prefix(left: str, right: str) -> int:
    """Return the length of the longest common prefix, by bisection: slices compare at C speed."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
