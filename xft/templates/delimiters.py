"""Where the trained piece of an answer begins and ends.

It begins behind the header that opens the answer when the model is asked, and ends with the token
that closes the turn, that token included. Whatever stands between the two is trained: an empty
thought that Qwen3 puts before the last answer, reasoning, the answer, and tool calls.
"""

from dataclasses import dataclass

from xft.errors import TemplateError
from xft.types import Message


@dataclass(frozen=True, slots=True)
class Turn:
    """What opens and closes the assistant's turn.

    Attributes:
        header: what opens it, may be empty.
        lead: where the header is empty, what the template puts between the end of the question and
            the answer: the space of Llama 2, with which the first token of the answer begins.
        end_of_turn: what closes it.
        closers: special tokens that may close it in the place of ``end_of_turn`` behind a tool
            call, as Llama 3.1's ``<|eom_id|>`` does.
    """

    header: str
    end_of_turn: str
    closers: tuple[str, ...] = ()
    lead: str = ""

    def start(self, before: str, at: int) -> int:
        """Where the trained piece begins in the text between the turn before and what the
        assistant says first.

        Args:
            before: that text.
            at: the number of the message.

        Raises:
            TemplateError: the header is not there.
        """
        found = before.rfind(self.header)
        if found < 0:
            raise TemplateError(f"turn {at + 1}: the template does not open it with {self.header!r}")
        if self.header:
            return found + len(self.header)
        return len(before) - (len(self.lead) if before.endswith(self.lead) else 0)

    def end(self, behind: str, at: int, message: Message) -> int:
        """Where the trained piece ends in the text behind what the assistant says last.

        Raises:
            TemplateError: nothing closes the turn there.
        """
        if behind.startswith(self.end_of_turn):
            return len(self.end_of_turn)
        if message.tool_calls:
            # What closes the call itself (a bracket, a tag) stands before what closes the turn.
            found = behind.find(self.end_of_turn)
            if found >= 0:
                return found + len(self.end_of_turn)
            others = [(behind.find(each), each) for each in self.closers if each in behind]
            if others:
                position, closer = min(others)
                return position + len(closer)
        raise TemplateError(
            f"turn {at + 1}: the template does not close it with {self.end_of_turn!r}, "
            "so the model would not learn to stop there"
        )
