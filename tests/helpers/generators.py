"""Text generators for tests of the chat and of the server."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from helpers.tiny import save_tiny
from xft.models import Completion, TextGenerator
from xft.models.generation import stop_ids
from xft.models.loading import load_tokenizer, load_weights
from xft.templates import BoundTemplate
from xft.types import Messages

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class EchoGenerator(TextGenerator):
    """Streams ``prefix`` and the last message in capitals; has no model.

    Attributes:
        conversations: conversations so far, as (role, content) pairs.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.conversations: list[list[tuple[str, str]]] = []

    def stream(
        self, conversation: Messages, max_new_tokens: int = 512, temperature: float = 0.0
    ) -> Iterator[str]:
        """Stream the answer in two pieces."""
        self.conversations.append([(message.role, message.content) for message in conversation])
        yield self.prefix
        yield conversation[-1].content.upper()


class ScriptedGenerator(TextGenerator):
    """Answers with a function of the conversation; has no model.

    Args:
        reply: text of the answer to a conversation; ``None`` stands for one that reached the limit.
        template: template of the model, for callers that encode rows.

    Attributes:
        batch_sizes: number of conversations of each call.
    """

    def __init__(
        self, reply: Callable[[Messages], str | None], template: BoundTemplate | None = None
    ) -> None:
        self.reply = reply
        if template is not None:
            self.template, self.tokenizer = template, template.tokenizer
        self.batch_sizes: list[int] = []

    def answer(
        self,
        conversations: Sequence[Messages],
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        batch_size: int = 16,
    ) -> list[Completion]:
        """Return the scripted answers."""
        self.batch_sizes.append(len(conversations))
        texts = [self.reply(messages) for messages in conversations]
        return [
            Completion("cut", "length", max_new_tokens)
            if text is None
            else Completion(text, "stop", len(text))
            for text in texts
        ]


class FixedAnswerGenerator(TextGenerator):
    """Generates the tokens of a fixed answer, and then the stop token; has no model.

    Args:
        tokenizer: tokenizer with a chat template.
        answer: text of the answer.
    """

    def __init__(self, tokenizer: Any, answer: str) -> None:
        self.tokenizer = tokenizer
        self.template = BoundTemplate(tokenizer, tokenizer.chat_template)
        self.stop_ids = stop_ids(tokenizer, self.template)
        self._answer = answer

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        temperature: float = 0.0,
        **options: Any,
    ) -> torch.Tensor:
        """Show each token to the stopping criteria until they stop all rows."""
        ids = self.tokenizer(self._answer, add_special_tokens=False)["input_ids"]
        (criterion,) = options["stopping_criteria"]
        for token in [*ids, self.stop_ids[0]]:
            rows = torch.tensor([[token]] * len(prompts))
            if bool(criterion(rows, None).all()):
                break
        return torch.tensor(ids)


def tiny_generator(folder: Path, make_byte_tokenizer: Any) -> TextGenerator:
    """Save a tiny random model with a ChatML template in ``folder`` and return its generator."""
    path = str(save_tiny(folder, "llama", make_byte_tokenizer(CHATML)))
    tokenizer = load_tokenizer(path)
    return TextGenerator(
        load_weights(path, torch.float32), tokenizer, BoundTemplate(tokenizer, tokenizer.chat_template)
    )


class PromptEchoGenerator(ScriptedGenerator):
    """Answers with the last 30 characters of the prompt that its template renders; has no model."""

    def __init__(self, bound: BoundTemplate) -> None:
        super().__init__(lambda messages: bound.render(messages, generation=True)[-30:], bound)

    def with_kwargs(self, chat_template_kwargs: Mapping[str, Any]) -> "PromptEchoGenerator":
        """Return the generator with variables of the template."""
        return PromptEchoGenerator(self.template.with_kwargs(chat_template_kwargs))
