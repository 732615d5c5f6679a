"""Generate answers with a model and its chat template."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import nn

from xft.errors import ModelError
from xft.models.generation_defaults import neutral_generation_config
from xft.templates import BoundTemplate
from xft.types import Messages, Tokenizer

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Completion:
    """A generated answer.

    Attributes:
        text: answer without special tokens.
        finish_reason: ``stop`` if the model ended its turn, ``length`` if it reached ``max_new_tokens``.
        num_tokens: number of generated tokens, the end-of-turn token included.
    """

    text: str
    finish_reason: FinishReason
    num_tokens: int


class TextGenerator:
    """Generates answers to conversations: greedily, or with the temperature of the call and nothing else.

    Penalties and other sampling parameters that the model's ``generation_config.json`` recommends are not applied.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        tokenizer: of the model.
        template: chat template that the model was trained with.
        synced_gpus: weights are sharded over ranks: every rank must generate the same number of tokens.
        base: disable the adapter.

    Raises:
        ModelError: ``base`` is set, and the model has no adapter.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        template: BoundTemplate,
        synced_gpus: bool = False,
        base: bool = False,
    ) -> None:
        if base and not isinstance(model, PeftModel):
            raise ModelError(
                "the model has no adapter, so there is no base to compare it with; load the base as a separate model"
            )
        self.base = base
        self.model: Any = model
        self.synced_gpus = synced_gpus
        self.tokenizer = tokenizer
        self.template = template
        self.stop_ids = stop_ids(tokenizer, template)

    def with_kwargs(self, chat_template_kwargs: Mapping[str, Any]) -> "TextGenerator":
        """Return a generator with more variables of the chat template, or this one if there are none.

        Raises:
            ConfigError: A variable is one that xft sets, or is not JSON.
            TemplateError: The template refuses a value.
        """
        if not chat_template_kwargs:
            return self
        template = self.template.with_kwargs(chat_template_kwargs)
        return TextGenerator(self.model, self.tokenizer, template, self.synced_gpus, self.base)

    def answer(
        self,
        conversations: Sequence[Messages],
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        batch_size: int = 16,
    ) -> list[Completion]:
        """Generate an answer to each conversation.

        Args:
            conversations: each ends with a user turn.
            max_new_tokens: maximum number of tokens of an answer.
            temperature: sampling temperature; 0 is greedy decoding.
            batch_size: number of conversations generated together.
        """
        answers: list[Completion] = []
        for start in range(0, len(conversations), batch_size):
            prompts = [self.encode(messages) for messages in conversations[start : start + batch_size]]
            width = max(len(prompt) for prompt in prompts)
            output = self.generate(prompts, max_new_tokens, temperature)
            answers += [self._completion(row[width:].tolist()) for row in output]
        return answers

    def stream(
        self, conversation: Messages, max_new_tokens: int = 512, temperature: float = 0.0
    ) -> Iterator[str]:
        """Stream the answer to one conversation.

        Yields:
            Pieces of text. A thread generates them, and stops when the caller closes the iterator.
        """
        from threading import Event, Thread

        from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

        closed = Event()

        class StreamClosed(StoppingCriteria):
            def __call__(
                self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object
            ) -> torch.Tensor:
                return torch.full((input_ids.shape[0],), closed.is_set(), device=input_ids.device)

        failure: list[BaseException] = []
        ids = torch.tensor([self.encode(conversation)])
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)  # type: ignore[arg-type]

        def work() -> None:
            try:
                self._generate(
                    ids,
                    torch.ones_like(ids),
                    max_new_tokens,
                    temperature,
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([StreamClosed()]),
                )
            except BaseException as error:  # noqa: BLE001 - raised below, in the thread of the caller
                failure.append(error)
                streamer.end()

        thread = Thread(target=work, daemon=True)
        thread.start()
        try:
            yield from (piece for piece in streamer if piece)
        finally:
            closed.set()
            thread.join()
        if failure:
            raise failure[0]

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        temperature: float = 0.0,
        **options: object,
    ) -> torch.Tensor:
        """Continue several prompts.

        Args:
            prompts: token ids of each prompt.
            max_new_tokens: maximum number of new tokens.
            temperature: sampling temperature; 0 is greedy decoding.
            options: further arguments of ``generate`` of transformers.

        Returns:
            ``(prompts, seq)`` ids: the prompts, padded on the left, and their continuations.
        """
        width = max(len(prompt) for prompt in prompts)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (width - len(prompt)) + [*prompt] for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        return self._generate(ids, mask, max_new_tokens, temperature, **options)

    def encode(self, conversation: Messages) -> list[int]:
        """Return the ids of a conversation up to the beginning of the answer."""
        text = self.template.render(conversation, generation=True)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _generate(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        max_new_tokens: int,
        temperature: float,
        **options: Any,
    ) -> torch.Tensor:
        device = next(self.model.parameters()).device
        training = self.model.training
        use_cache = self.model.config.use_cache
        self.model.eval()
        self.model.config.use_cache = True
        try:
            with self._adapter_context(), neutral_generation_config(self.model), torch.no_grad():
                sampling = {"temperature": temperature, "top_k": 0} if temperature > 0 else {}
                return self.model.generate(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    max_new_tokens=max_new_tokens,
                    do_sample=temperature > 0,
                    pad_token_id=self.tokenizer.pad_token_id,
                    eos_token_id=self.stop_ids,
                    synced_gpus=self.synced_gpus,
                    **sampling,
                    **options,
                )
        finally:
            self.model.config.use_cache = use_cache
            self.model.train(training)

    def _adapter_context(self) -> AbstractContextManager[Any]:
        """Return a context with the adapter enabled or disabled."""
        return self.model.disable_adapter() if self.base else nullcontext()

    def _completion(self, ids: list[int]) -> Completion:
        for position, token in enumerate(ids):
            if token in self.stop_ids:
                text = self.tokenizer.decode(ids[:position], skip_special_tokens=True)
                return Completion(str(text).strip(), "stop", position + 1)
        return Completion(
            str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip(), "length", len(ids)
        )


def stop_ids(tokenizer: Tokenizer, template: BoundTemplate) -> list[int]:
    """Return the ids that end an answer: those of the template, then the EOS of the tokenizer."""
    ids = [tokenizer.convert_tokens_to_ids(token) for token in template.stop_tokens]
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids.append(tokenizer.eos_token_id)
    return ids
