"""Locate the start and the end of a target span between two pieces of content.

A target span starts after the generation prompt and ends with the end-of-turn token, which is part of it. All text
between the two is in the loss: the empty reasoning block that Qwen3 writes before the last answer, reasoning, the
answer, and tool calls.
"""

from dataclasses import dataclass

from xft.errors import TemplateError
from xft.types import Message


@dataclass(frozen=True, slots=True)
class TurnDelimiters:
    """Text that opens and closes the assistant's turn.

    Attributes:
        generation_prompt: text that opens the turn; may be empty.
        end_of_turn: text that closes the turn.
        closers: special tokens that may close the turn after a tool call instead of ``end_of_turn``, such as
            ``<|eom_id|>`` of Llama 3.1.
        lead: text between the question and the answer if ``generation_prompt`` is empty: the space of Llama 2, which
            belongs to the first token of the answer.
    """

    generation_prompt: str
    end_of_turn: str
    closers: tuple[str, ...] = ()
    lead: str = ""

    def start(self, before: str, index: int) -> int:
        """Return the offset of the target span in the text before the content of an answer.

        Args:
            before: text between the previous span and the first content of the answer.
            index: index of the message.

        Raises:
            TemplateError: The text does not contain the generation prompt.
        """
        position = before.rfind(self.generation_prompt)
        if position < 0:
            raise TemplateError(
                f"turn {index + 1}: the template does not open it with {self.generation_prompt!r}",
                key="template",
                expected=self.generation_prompt,
            )
        if self.generation_prompt:
            return position + len(self.generation_prompt)
        return len(before) - (len(self.lead) if before.endswith(self.lead) else 0)

    def end(self, after: str, index: int, message: Message) -> int:
        """Return the offset of the end of the target span in the text after the content of an answer.

        Raises:
            TemplateError: The turn is not closed.
        """
        if after.startswith(self.end_of_turn):
            return len(self.end_of_turn)
        if message.tool_calls:
            # The text that closes the call (a bracket, a tag) precedes the text that closes the turn.
            position = after.find(self.end_of_turn)
            if position >= 0:
                return position + len(self.end_of_turn)
            positions = [(after.find(token), token) for token in self.closers if token in after]
            if positions:
                position, closer = min(positions)
                return position + len(closer)
        raise TemplateError(
            f"turn {index + 1}: the template does not close it with {self.end_of_turn!r}, so the model would not "
            "learn to stop there",
            key="template",
            expected=self.end_of_turn,
        )
