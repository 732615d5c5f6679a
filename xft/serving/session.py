"""A conversation with a model: history, streaming, stopping."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from xft.errors import ModelError
from xft.models import TextGenerator, load_saved_model
from xft.templates import BoundTemplate
from xft.types import Message


@dataclass
class Session:
    """Keeps the turns, and asks the model to go on.

    Attributes:
        generator: answers.
        system: a system turn at the beginning, if any.
        max_new_tokens: the most tokens of an answer.
        temperature: 0 takes the likeliest token each time.
        history: the turns so far, without the system's.
    """

    generator: TextGenerator
    system: str | None = None
    max_new_tokens: int = 512
    temperature: float = 0.0
    history: list[Message] = field(default_factory=list)

    def reset(self) -> None:
        """Forget the turns; the system turn stays."""
        self.history.clear()

    def without_adapter(self) -> "Session":
        """A conversation of its own with the model below the adapter.

        Raises:
            ModelError: there is no adapter.
        """
        own = self.generator
        base = TextGenerator(own.model, own.tokenizer, own.template, base=True)
        return Session(base, self.system, self.max_new_tokens, self.temperature)

    def conversation(self, text: str) -> list[Message]:
        """The turns that the model sees when the user says ``text``."""
        system = [Message("system", self.system)] if self.system else []
        return [*system, *self.history, Message("user", text)]

    def ask(self, text: str) -> Iterator[str]:
        """Say something, and receive the answer piece by piece.

        An answer that is broken off (Ctrl-C) stays in the history as far as it was heard.
        """
        conversation = self.conversation(text)
        heard: list[str] = []
        try:
            for piece in self.generator.stream(conversation, self.max_new_tokens, self.temperature):
                heard.append(piece)
                yield piece
        finally:
            if heard:
                self.history += [
                    Message("user", text),
                    Message("assistant", "".join(heard).strip()),
                ]

    def take_back(self) -> str | None:
        """Forget the last question and its answer. Returns the question, ``None`` where there is none."""
        if not self.history:
            return None
        question = self.history[-2].content
        del self.history[-2:]
        return question

    def ask_once(self, text: str) -> str:
        """Answer without history, and without remembering it."""
        system = [Message("system", self.system)] if self.system else []
        turns = [*system, Message("user", text)]
        return self.generator.answer([turns], self.max_new_tokens, self.temperature)[0].text


def open_session(
    path: str,
    adapter: str | None = None,
    bits: int | None = None,
    system: str | None = None,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
    trust_remote_code: bool = False,
) -> Session:
    """Open a run folder, a checkpoint, an adapter or a model for talking.

    Raises:
        ModelError: there is nothing to open, it is a reward model, or it has no chat template.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_saved_model(
        path,
        adapter=adapter,
        bits=bits,
        device=device,
        trust_remote_code=trust_remote_code,
        kind="causal_lm",
    )
    source = loaded.tokenizer.chat_template
    if not isinstance(source, str):
        raise ModelError(
            f"{path}: the tokenizer has no chat template, so nobody can say how to talk to the model; "
            "train it with a template, or save one beside it as chat_template.jinja"
        )
    generator = TextGenerator(loaded.model, loaded.tokenizer, BoundTemplate(loaded.tokenizer, source))
    return Session(generator, system, max_new_tokens, temperature)
