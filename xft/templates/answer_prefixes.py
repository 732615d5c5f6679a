r"""Locate the start of a target span: the offset at which the model starts to generate.

The *answer prefix* is the text that a template writes between the previous message and an answer. It is compared
with the text that the template writes in the same place with ``add_generation_prompt=True``. The target
span starts at the first difference. Examples, with the common part before the bar::

    Qwen 3           <|im_end|>\n<|im_start|>assistant\n|<think>\n\n</think>\n\n
    Qwen 3.5         <|im_end|>\n<|im_start|>assistant\n<think>\n|\n</think>\n\n
    gpt-oss          <|end|><|start|>assistant|<|channel|>final<|message|>
    Llama 2           [/INST]|␠
    Gemma 4, after the result of a call: <tool_response|>|

An answer prefix is derived from three renderings and cached; later, it is recognized by its text. All offsets and
lengths count characters. ``add_generation_prompt`` is the variable of chat templates in transformers
(https://huggingface.co/docs/transformers/chat_templating).
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
_MAX_CACHED = 32
_START_TAG = re.compile(r"(<[^<>]+>(?:thought)?|\[[A-Z_]+\])\s*$")
_END_TAG = re.compile(r"\s*(<[^<>]+>(?:\w+<[^<>]+>)?|\[/[A-Z_]+\])")
_THOUGHT_TAG = re.compile(r"<[^<>]*think[^<>]*>|<[^<>]+>thought|\[THINK\]", re.IGNORECASE)
_EMPTY_THOUGHT = r"<think>\s*</think>\s*"


@dataclass(frozen=True, slots=True)
class AnswerPrefix:
    """Text between the previous message and an answer.

    Attributes:
        text: the text. In a cached prefix, a NUL character replaces the name of the called function.
        num_prompt_chars: number of leading characters that also belong to the generation prompt; the target span starts
            after them.
        thought: offsets in ``text`` of start and end of an empty thinking block; both are 0 if there is none.
    """

    text: str
    num_prompt_chars: int
    thought: tuple[int, int] = (0, 0)


class AnswerPrefixes:
    """Find the prefixes of answers, and cache them by kind of answer.

    Args:
        render: renders messages.
        reads_reasoning: whether the template reads reasoning from a field.
        generation_prompt: fallback prefix if the comparison is impossible; may be empty.
    """

    def __init__(self, render: RenderTurns, reads_reasoning: bool, generation_prompt: str) -> None:
        self._render = render
        self._generation_prompt = generation_prompt
        self._empty_thought = re.compile(self._thought_pattern() if reads_reasoning else _EMPTY_THOUGHT)
        self._cache: dict[tuple[Any, ...], list[AnswerPrefix]] = defaultdict(list)

    def find(
        self, text: str, begin: int, messages: Messages, index: int, tools: Sequence[Any], sentinel: str
    ) -> AnswerPrefix:
        """Return the prefix of an answer.

        Args:
            text: ``render(messages, tools, False)``.
            begin: offset of the first content of the answer: reasoning, text or tool call.
            messages: the conversation.
            index: index of the answer.
            tools: tools of the conversation.
            sentinel: text that does not occur in the conversation.

        Returns:
            The prefix, which ends at ``begin``.

        Raises:
            TemplateError: The generation prompt differs from the answer prefix, or does not occur before the answer.
        """
        message = messages[index]
        key = _key(messages, index, tools)
        name = message.tool_calls[0].name if message.tool_calls else ""
        known = self._cache[key]
        if name:
            known = [replace(prefix, text=prefix.text.replace("\0", name)) for prefix in known]
        matches = [prefix for prefix in known if text.endswith(prefix.text, 0, begin)]
        if matches:
            return max(matches, key=lambda prefix: len(prefix.text))
        prefix = self._derive(text, begin, messages, index, tools, sentinel)
        if prefix.text and len(known) < _MAX_CACHED:
            start = prefix.text.rfind(name, max(prefix.num_prompt_chars, prefix.thought[1])) if name else -1
            nameless = (
                f"{prefix.text[:start]}\0{prefix.text[start + len(name) :]}" if start >= 0 else prefix.text
            )
            self._cache[key].append(replace(prefix, text=nameless))
        return prefix

    def has_empty_thought(self, text: str) -> bool:
        """Whether a text contains an empty thinking block."""
        return self._empty_thought.search(text) is not None

    def find_cached(
        self, text: str, messages: Messages, targets: Sequence[int], tools: Sequence[Any]
    ) -> dict[int, int]:
        """Return the offsets at which the contents of answers that are only text start, without rendering again.

        Args:
            text: ``render(messages, tools, False)``.
            messages: the conversation.
            targets: indices of the answers.
            tools: tools of the conversation.

        Returns:
            Offsets in ``text`` by index of the message, without answers whose prefix is not cached; empty if the generation prompt may be in a message: it must occur
            once for each assistant message.
        """
        prompt = self._generation_prompt or self._cached_prompt(messages, targets, tools)
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        is_prompted = not self._generation_prompt and text.endswith(prompt)
        if not prompt or text.count(prompt) - is_prompted != len(answers):
            return {}
        contents: dict[int, int] = {}
        position = -1
        for index in answers:
            position = text.find(prompt, position + 1)
            if index not in targets:
                continue
            for prefix in self._cache.get(_key(messages, index, tools), ()):
                header = prefix.text.find(prompt)
                if 0 <= header <= position and text.startswith(prefix.text, position - header):
                    end = position - header + len(prefix.text)
                    contents[index] = max(end, contents.get(index, 0))
        return contents

    def _cached_prompt(self, messages: Messages, targets: Sequence[int], tools: Sequence[Any]) -> str:
        """Return the prefix of an earlier answer. A template that writes it after all messages (Llama 3) has no other
        generation prompt."""
        prefixes = self._cache.get(_key(messages, targets[0], tools), ()) if targets else ()
        return prefixes[0].text if prefixes else ""

    def _derive(
        self, text: str, begin: int, messages: Messages, index: int, tools: Sequence[Any], sentinel: str
    ) -> AnswerPrefix:
        prefix, prompt = self._compare(text, begin, messages, index, tools, sentinel)
        common = common_prefix(prefix, prompt)
        if prefix.rfind("<", 0, common) > prefix.rfind(">", 0, common) and common < len(prompt):
            common = prefix.rfind("<", 0, common)  # tags are compared as a whole
        thinks = bool(_THOUGHT_TAG.match(prompt, common))
        thinks = thinks or any(
            match.end() >= len(prompt[:common].rstrip()) for match in _THOUGHT_TAG.finditer(prompt[:common])
        )
        if prefix[common:] and prompt[common:] and not thinks and messages[index].tool_calls:
            # The prefix contains the syntax of calls. The prompt may be longer than the prefix of plain answers.
            plain = self._plain_prefix(messages, index, tools, sentinel)
            if plain is not None and prefix.startswith(plain.text):
                return AnswerPrefix(prefix, plain.num_prompt_chars)
        if prefix[common:] and prompt[common:] and not thinks:
            raise TemplateError(
                f"template: the generation prompt ({prompt[-60:]!r}) differs from the text before an answer in "
                f"training ({prefix[-60:]!r}); use another template",
                key="template",
                got=prefix[-60:],
                expected=prompt[-60:],
            )
        thoughts = [match.span() for match in self._empty_thought.finditer(prefix)]
        return AnswerPrefix(prefix, common, thoughts[-1] if thoughts else (0, 0))

    def _plain_prefix(
        self, messages: Messages, index: int, tools: Sequence[Any], sentinel: str
    ) -> AnswerPrefix | None:
        """Return the prefix of an answer without tool calls in place of an answer with tool calls."""
        answer = sentinel[0] + sentinel[1:-1].upper() + sentinel[-1]
        turns = [*messages[:index], Message("assistant", answer)]
        try:
            text = self._render(turns, tools, False)
            begin = text.rfind(answer)
            return None if begin < 0 else self._derive(text, begin, turns, index, tools, sentinel)
        except TemplateError:
            return None

    def _thought_pattern(self) -> str:
        """Return a pattern for the reasoning tags of the template without reasoning between them."""
        reasoning = "\ue000reasoning\ue001"
        turns = [Message("user", "question"), Message("assistant", "answer", reasoning=reasoning)]
        try:
            before, mark, after = self._render(turns, (), False).partition(reasoning)
        except TemplateError:
            return _EMPTY_THOUGHT
        start_tag, end_tag = _START_TAG.search(before), _END_TAG.match(after.partition("answer")[0])
        if not mark or start_tag is None or end_tag is None:
            return _EMPTY_THOUGHT
        tags = rf"{re.escape(start_tag.group(1))}\s*{re.escape(end_tag.group(1))}\s*"
        return f"{_EMPTY_THOUGHT}|{tags}"

    def _compare(
        self, text: str, begin: int, messages: Messages, index: int, tools: Sequence[Any], sentinel: str
    ) -> tuple[str, str]:
        """Return the texts that can follow the previous message: the answer prefix and the generation prompt."""
        answer = text[begin:]
        marked = list(messages)
        if index:
            marked[index - 1] = replace(marked[index - 1], content=sentinel)
        whole = self._render(marked, tools, False)
        prompt = self._render(marked[:index], tools, True) if index else ""
        _, mark, tail = whole.rpartition(sentinel)
        _, prompt_mark, prompt_tail = prompt.rpartition(sentinel)
        if mark and prompt_mark and tail.endswith(answer):
            prefix = tail[: len(tail) - len(answer)]
            if text.endswith(prefix, 0, begin):
                return prefix, prompt_tail
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


def _key(messages: Messages, index: int, tools: Sequence[Any]) -> tuple[Any, ...]:
    """Return what the prefix of an answer can depend on."""
    message = messages[index]
    previous = messages[index - 1] if index else None
    return (
        previous and (previous.role, bool(previous.tool_calls)),
        bool(message.reasoning),
        bool(message.content),
        bool(message.tool_calls),
        bool(tools),
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


def added_text(plain: str, prompted: str, specials: set[str]) -> str:
    """Return the text that the generation prompt adds.

    Phi-3 ends a text without generation prompt with EOS, so the two texts can differ inside a special
    token. The result then starts at the start of that token.

    Args:
        plain: text without generation prompt.
        prompted: the same text with generation prompt.
        specials: special tokens of the tokenizer.
    """
    start = common_prefix(plain, prompted)
    for token in specials:
        for position in range(max(0, start - len(token) + 1), start):
            if start < len(plain) and prompted.startswith(token, position):
                return prompted[position:]
    return prompted[start:]
