"""Generate answers with a model and its chat template."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from peft import PeftModel
from torch import nn

from xft.data.images.placeholders import expand_text
from xft.errors import DataError, ModelError
from xft.models.checks.attention_checks import check_loaded
from xft.models.generation_defaults import neutral_generation_config
from xft.models.model_options import model_options
from xft.models.token_decoding import contiguous_head_inputs
from xft.templates import BoundTemplate
from xft.types import IGNORE_INDEX, Image, ImageProcessor, Messages, Sample, Tokenizer

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

    max_batch_size: int | None = None
    """Number of prompts that can be continued together: 1 if padding on the left changes logits, as measured."""

    processor: ImageProcessor | None = None
    """Image processor of the model; ``None`` for a text model."""

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
        self.processor = model_options(model).processor
        if not check_loaded(model).pads_left:
            self.max_batch_size = 1

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
            batch_size: number of conversations generated together, if the model can be padded.
        """
        answers: list[Completion] = []
        batch_size = self.max_batch_size or batch_size
        for start in range(0, len(conversations), batch_size):
            batch = conversations[start : start + batch_size]
            prompts = [self.encode(messages) for messages in batch]
            width = max(len(prompt) for prompt in prompts)
            images = [images_of(messages) for messages in batch]
            output = self.generate(prompts, max_new_tokens, temperature, images)
            answers += [self.to_completion(row[width:].tolist()) for row in output]
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
        prompts, images = [self.encode(conversation)], [images_of(conversation)]
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)  # type: ignore[arg-type]

        def work() -> None:
            try:
                self.generate(
                    prompts,
                    max_new_tokens,
                    temperature,
                    images,
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
        images: Sequence[Sequence[Image]] = (),
        **options: object,
    ) -> torch.Tensor:
        """Continue several prompts.

        Args:
            prompts: token ids of each prompt.
            max_new_tokens: maximum number of new tokens.
            temperature: sampling temperature; 0 is greedy decoding.
            images: images of each prompt; none by default.
            options: further arguments of ``generate`` of transformers.

        Returns:
            ``(prompts, seq)`` ids: the prompts, padded on the left, and their continuations.
        """
        width = max(len(prompt) for prompt in prompts)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (width - len(prompt)) + [*prompt] for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        if self.processor is not None:
            options |= self._image_inputs(prompts, images, self.processor)
        return self._generate(ids, mask, max_new_tokens, temperature, **options)

    def _image_inputs(
        self,
        prompts: Sequence[Sequence[int]],
        images: Sequence[Sequence[Image]],
        processor: ImageProcessor,
    ) -> dict[str, object]:
        """Return the arguments of ``generate`` for the images of prompts. An answer has no tokens of images."""
        shown = images or [()] * len(prompts)
        ids = [np.array(prompt, dtype=np.int32) for prompt in prompts]
        samples = [
            Sample(row, np.full_like(row, IGNORE_INDEX), images=tuple(items))
            for row, items in zip(ids, shown, strict=True)
        ]
        dtype, device = self.model.dtype, self.model.device
        inputs: dict[str, object] = {
            name: value.to(device, dtype if value.is_floating_point() else value.dtype)
            for name, value in processor.generation_inputs(samples).items()
        }
        return {**inputs, "suppress_tokens": sorted(processor.token_ids)}

    def encode(self, conversation: Messages) -> list[int]:
        """Return the ids of a conversation up to the beginning of the answer.

        Raises:
            DataError: it has images, and the model sees none or the template drops one.
        """
        text = self.template.render(conversation, generation=True)
        text = self.with_images(text, images_of(conversation))
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def with_images(self, text: str, images: Sequence[Image]) -> str:
        """Replace the image placeholders in a rendered prompt with image tokens.

        Raises:
            DataError: there are images, and the model sees none or the template drops one.
        """
        if self.processor is not None:
            return expand_text(text, images, self.processor)
        if images:
            raise DataError(
                key="images",
                got=len(images),
                expected="0: the model sees no images",
                fix="use a vision-language model",
            )
        return text

    @torch.no_grad()
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
        self.model.eval()
        try:
            adapter = self.model.disable_adapter() if self.base else nullcontext()
            head = contiguous_head_inputs(self.model)
            with adapter, neutral_generation_config(self.model), head:
                sampling = {"temperature": temperature, "top_k": 0} if temperature > 0 else {}
                return self.model.generate(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    max_new_tokens=max_new_tokens,
                    do_sample=temperature > 0,
                    pad_token_id=self.tokenizer.pad_token_id,
                    eos_token_id=self.stop_ids,
                    synced_gpus=self.synced_gpus,
                    use_cache=True,
                    **sampling,
                    **options,
                )
        finally:
            self.model.train(training)

    def to_completion(self, ids: list[int]) -> Completion:
        """Decode generated ids up to the first stop token."""
        for position, token in enumerate(ids):
            if token in self.stop_ids:
                text = self.tokenizer.decode(ids[:position], skip_special_tokens=True)
                return Completion(str(text).strip(), "stop", position + 1)
        return Completion(
            str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip(), "length", len(ids)
        )


def images_of(conversation: Messages) -> list[Image]:
    """Return the images of all turns, in order."""
    return [image for message in conversation for image in message.images]


def stop_ids(tokenizer: Tokenizer, template: BoundTemplate) -> list[int]:
    """Return the ids that end an answer: those of the template, then the EOS of the tokenizer."""
    ids = [tokenizer.convert_tokens_to_ids(token) for token in template.stop_tokens]
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids.append(tokenizer.eos_token_id)
    return ids
