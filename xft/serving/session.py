"""Conversation with a model: history, streaming, interruption."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from xft.data.formats.images import MARK, image_message
from xft.data.images.reading import open_image
from xft.errors import DataError, ModelError
from xft.models import TextGenerator, load_saved_model
from xft.templates import BoundTemplate
from xft.types import IMAGE_PLACE, Image, Message


@dataclass
class Session:
    """Conversation history and the settings of the next answer.

    Attributes:
        generator: generates the answers.
        system: system message before all others; ``None`` for no system message.
        max_new_tokens: maximum number of tokens of an answer.
        temperature: sampling temperature; 0 is greedy decoding.
        history: user and assistant turns, without the system message.
        images: images of the next message.
    """

    generator: TextGenerator
    system: str | None = None
    max_new_tokens: int = 512
    temperature: float = 0.0
    history: list[Message] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)

    def reset(self) -> None:
        """Clear the history and the images of the next message; the system message stays."""
        self.history.clear()
        self.images.clear()

    def attach(self, path: str) -> Image:
        """Show an image with the next message.

        Raises:
            DataError: the model sees no images, or the file is none.
        """
        image = open_image(path, Path(), "image")
        if self.generator.processor is None:
            raise DataError(key="image", got=path, expected="no image: the model sees none")
        self.images.append(image)
        return image

    def without_adapter(self) -> "Session":
        """Return a new session with the base model, that is with the adapter disabled.

        Raises:
            ModelError: the model has no adapter.
        """
        tuned = self.generator
        base = TextGenerator(tuned.model, tuned.tokenizer, tuned.template, base=True)
        return Session(base, self.system, self.max_new_tokens, self.temperature, images=[*self.images])

    def conversation(self, text: str) -> list[Message]:
        """Return the messages that the model reads if the user sends ``text``."""
        return [*self._system_messages(), *self.history, image_message(text, self.images)]

    def ask(self, text: str) -> Generator[str, None, None]:
        """Send a message and stream the answer.

        An interrupted answer (Ctrl-C) stays in the history as far as it was streamed.

        Raises:
            DataError: the text has another number of marks ``<image>`` than there are images.
        """
        conversation = self.conversation(text)
        pieces: list[str] = []
        try:
            for piece in self.generator.stream(conversation, self.max_new_tokens, self.temperature):
                pieces.append(piece)
                yield piece
        finally:
            if pieces:
                self.history += [conversation[-1], Message("assistant", "".join(pieces).strip())]
                self.images = []

    def pop_last_turn(self) -> str | None:
        """Remove the last user message and its answer; return the message, or ``None`` without history.

        The images of the message become those of the next one.
        """
        if not self.history:
            return None
        message = self.history[-2]
        self.images = list(message.images)
        del self.history[-2:]
        return message.content.replace(IMAGE_PLACE, MARK)

    def ask_once(self, text: str) -> str:
        """Answer a message without reading or changing the history."""
        messages = [*self._system_messages(), image_message(text, self.images)]
        return self.generator.answer([messages], self.max_new_tokens, self.temperature)[0].text

    def _system_messages(self) -> list[Message]:
        return [Message("system", self.system)] if self.system else []


def open_session(
    path: str,
    adapter: str | None = None,
    bits: int | None = None,
    system: str | None = None,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
    trust_remote_code: bool = False,
    chat_template_kwargs: Mapping[str, Any] = MappingProxyType({}),
) -> Session:
    """Load a run folder, a checkpoint, an adapter or a model to chat with.

    Args:
        path: folder or name of the model.
        adapter: adapter to load on the model at ``path``.
        bits: load the base model quantized to 4 or 8 bits; ``None`` for the precision of training.
        system: as in :class:`Session`; ``None`` for that of the training (``data.system``), empty for none.
        max_new_tokens, temperature: as in :class:`Session`.
        trust_remote_code: run Python code that is stored with the weights.
        chat_template_kwargs: variables of the chat template, such as ``enable_thinking``.

    Raises:
        ConfigError: a variable is one that xft sets, or is not JSON.
        ModelError: nothing can be loaded from ``path``, it is a reward model, or it has no chat template.
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
            f"{path}: the tokenizer has no chat template, which a conversation needs. Fine-tune the model with a "
            "template, or save one next to the weights as chat_template.jinja",
            key="chat_template",
            expected="a chat template",
        )
    template = BoundTemplate(loaded.tokenizer, source).with_kwargs(chat_template_kwargs)
    generator = TextGenerator(loaded.model, loaded.tokenizer, template)
    system = loaded.system if system is None else system
    return Session(generator, system or None, max_new_tokens, temperature)
