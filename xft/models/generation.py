"""Let a model answer, in the template that it was trained with."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import nn

from xft.errors import ModelError
from xft.templates import BoundTemplate
from xft.types import Messages, Tokenizer

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Completion:
    """A generated answer.

    Attributes:
        text: without special tokens.
        finish_reason: ``stop`` if the model ended its turn, ``length`` if it reached ``max_new_tokens``.
        num_tokens: tokens generated, the end-of-turn token included.
    """

    text: str
    finish_reason: FinishReason
    num_tokens: int


class TextGenerator:
    """Answers conversations with a model.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        tokenizer: the model's.
        template: the one that the model was trained with.
        together: whether ranks share the weights out: then all must ask the same, and go on until the
            last of them is done.
        base: answer without the adapter, as the model below it would.

    Raises:
        ModelError: ``base`` is asked for, and there is no adapter.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        template: BoundTemplate,
        together: bool = False,
        base: bool = False,
    ) -> None:
        if base and not isinstance(model, PeftModel):
            raise ModelError(
                "the model has no adapter that could be taken off, so there is no base to compare it with; "
                "open the base as a model of its own"
            )
        self.base = base
        self.model: Any = model
        self.together = together
        self.tokenizer = tokenizer
        self.template = template
        self.stop_ids = stop_ids(tokenizer, template)

    def answer(
        self,
        conversations: Sequence[Messages],
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        batch_size: int = 16,
    ) -> list[Completion]:
        """Answer conversations, several at once.

        Args:
            conversations: each ends with the user's turn.
            max_new_tokens: the most tokens of an answer.
            temperature: 0 takes the likeliest token each time.
            batch_size: conversations at once.
        """
        answers: list[Completion] = []
        for start in range(0, len(conversations), batch_size):
            prompts = [self.encode(each) for each in conversations[start : start + batch_size]]
            width = max(len(each) for each in prompts)
            output = self.generate(prompts, max_new_tokens, temperature)
            answers += [self._read(row[width:].tolist()) for row in output]
        return answers

    def stream(
        self, conversation: Messages, max_new_tokens: int = 512, temperature: float = 0.0
    ) -> Iterator[str]:
        """Answer one conversation piece by piece.

        Yields:
            Pieces of text. The generation runs in a thread and ends when the caller stops asking.
        """
        from threading import Event, Thread

        from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

        enough = Event()

        class CallerLeft(StoppingCriteria):
            def __call__(
                self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
            ) -> torch.Tensor:
                return torch.full((input_ids.shape[0],), enough.is_set(), device=input_ids.device)

        failure: list[BaseException] = []
        ids = torch.tensor([self.encode(conversation)])
        streamer: Any = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)  # type: ignore[arg-type]

        def work() -> None:
            try:
                self._generate(
                    ids,
                    torch.ones_like(ids),
                    max_new_tokens,
                    temperature,
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([CallerLeft()]),
                )
            except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
                failure.append(error)
                streamer.end()

        thread = Thread(target=work, daemon=True)
        thread.start()
        try:
            yield from (piece for piece in streamer if piece)
        finally:
            enough.set()
            thread.join()
        if failure:
            raise failure[0]

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        temperature: float = 0.0,
        **options: Any,
    ) -> torch.Tensor:
        """Go on from several texts at once.

        Args:
            prompts: the tokens of each.
            max_new_tokens: the most tokens that are added.
            temperature: 0 takes the likeliest token each time.
            options: for ``generate`` of transformers.

        Returns:
            ``(texts, seq)``: the prompts, padded on the left, and what follows.
        """
        width = max(len(each) for each in prompts)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (width - len(each)) + [*each] for each in prompts])
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts])
        return self._generate(ids, mask, max_new_tokens, temperature, **options)

    def encode(self, conversation: Messages) -> list[int]:
        """The ids of a conversation, up to where the answer begins."""
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
        cached = self.model.config.use_cache
        self.model.eval()
        self.model.config.use_cache = True
        try:
            with self._adapter(), torch.no_grad():
                sampling = {"temperature": temperature, "top_p": 1.0, "top_k": 0} if temperature > 0 else {}
                return self.model.generate(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    max_new_tokens=max_new_tokens,
                    do_sample=temperature > 0,
                    pad_token_id=self.tokenizer.pad_token_id,
                    eos_token_id=self.stop_ids,
                    synced_gpus=self.together,
                    **sampling,
                    **options,
                )
        finally:
            self.model.config.use_cache = cached
            self.model.train(training)

    def _adapter(self) -> AbstractContextManager[Any]:
        """The adapter on, or off."""
        return self.model.disable_adapter() if self.base else nullcontext()

    def _read(self, ids: list[int]) -> Completion:
        for position, token in enumerate(ids):
            if token in self.stop_ids:
                text = self.tokenizer.decode(ids[:position], skip_special_tokens=True)
                return Completion(str(text).strip(), "stop", position + 1)
        return Completion(
            str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip(), "length", len(ids)
        )


def stop_ids(tokenizer: Tokenizer, template: BoundTemplate) -> list[int]:
    """The tokens at which an answer ends: the template's, then the tokenizer's own."""
    ids = [tokenizer.convert_tokens_to_ids(each) for each in template.stop_tokens]
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids.append(tokenizer.eos_token_id)
    return ids
