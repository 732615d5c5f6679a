"""Generation requests: sampling parameters, progress, events."""

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from xft.models import TextGenerator
from xft.models.generation import FinishReason
from xft.serving.server.text_stream import StopMatcher, TextStream
from xft.types import Image

if TYPE_CHECKING:
    from transformers import LogitsProcessor


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters and stopping conditions of an answer.

    Attributes:
        max_tokens: maximum number of tokens.
        temperature: sampling temperature; 0 is greedy decoding.
        top_p: nucleus sampling: draw from the smallest set of most probable tokens with at least this total
            probability (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751).
        seed: seed of the random number generator; ``None`` for a random seed.
        stop: texts that end the answer; they are not part of it.
        strip: remove white space at both ends, as the chat does.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    strip: bool = True


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text before an answer.

    Attributes:
        ids: token ids.
        images: images, in the order of their tokens.
    """

    ids: list[int]
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationEvent:
    """Progress of an answer.

    Attributes:
        text: new text since the last event.
        finish_reason: why the answer ended; ``None`` before its end.
        error: message of the error that ended the answer, if any.
    """

    text: str = ""
    finish_reason: FinishReason | None = None
    error: str | None = None


@dataclass(eq=False)
class GenerationRequest:
    """Answer that is queued or being generated.

    Attributes:
        generator: model that generates the answer.
        prompt: token ids before the answer.
        sampling: sampling parameters.
        on_event: callback for new text and the end, called in the thread that generates.
        kept_special_ids: ids of special tokens that are part of the text, such as those around a tool call.
        images: images of the prompt.
        generated: token ids of the answer so far.
        done: whether the answer is finished, failed or canceled.
    """

    generator: TextGenerator
    prompt: Sequence[int]
    sampling: Sampling
    on_event: Callable[[GenerationEvent], None]
    kept_special_ids: Collection[int] = ()
    images: Sequence[Image] = ()
    generated: list[int] = field(default_factory=list)
    done: bool = False

    def __post_init__(self) -> None:
        seed = secrets.randbits(63) if self.sampling.seed is None else self.sampling.seed
        self.random = torch.Generator().manual_seed(seed % 2**63)
        self._stream = TextStream(self.generator.tokenizer, self.kept_special_ids)
        self._stops = StopMatcher(self.sampling.stop)
        self._unsent = ""
        self._num_sent = 0

    def add_token(self, token: int) -> None:
        """Append a token and send the text that it completes."""
        self.generated.append(token)
        stopped = token in self.generator.stop_ids
        at_limit = len(self.generated) >= self.sampling.max_tokens
        text = "" if stopped else self._stream.add(token)
        if stopped or at_limit:
            text += self._stream.finish()
        if self.sampling.strip and not self._num_sent and not self._unsent:
            text = text.lstrip()
        stop_offset = self._stops.feed(text)
        self._unsent += text
        if stop_offset is not None:
            self._unsent, stopped = self._unsent[: stop_offset - self._num_sent], True
        finish_reason: FinishReason | None = "stop" if stopped else ("length" if at_limit else None)
        is_last = finish_reason is not None
        new_text = self._sendable(is_last)
        if new_text or is_last:
            self._num_sent += len(new_text)
            self._unsent = self._unsent[len(new_text) :]
            self.on_event(GenerationEvent(new_text, finish_reason))
        if is_last:  # else unchanged: another thread may have canceled the request
            self.done = True

    def fail(self, error: str) -> None:
        """End the answer with an error."""
        self.done = True
        self.on_event(GenerationEvent(error=error))

    def cancel(self) -> None:
        """End the answer because its client disconnected. Thread-safe."""
        self.done = True

    def _sendable(self, is_last: bool) -> str:
        """Return the unsent text that later tokens can neither cut off nor strip."""
        num_held = 0 if is_last else self._stops.num_held
        text = self._unsent[: len(self._unsent) - num_held]
        return text.rstrip() if self.sampling.strip else text


class RowSampler:
    """Logits processor that samples the next token of each row with the parameters of its request.

    Each row with a temperature has its own random number generator: a seed gives the same answer in any batch. The
    sampled token is the only one with a finite score, so ``generate`` selects it.

    Args:
        requests: request of each row.
    """

    def __init__(self, requests: Sequence[GenerationRequest]) -> None:
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        self.requests = requests
        self._warpers: list[list[LogitsProcessor]] = []
        for request in requests:
            warpers: list[LogitsProcessor] = []
            if request.sampling.temperature > 0:
                warpers.append(TemperatureLogitsWarper(request.sampling.temperature))
                if request.sampling.top_p < 1:
                    warpers.append(TopPLogitsWarper(request.sampling.top_p))
            self._warpers.append(warpers)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores of shape ``(rows, vocabulary)``; the argmax of each row is its next token."""
        scores = scores.clone()
        for row, (request, warpers) in enumerate(zip(self.requests, self._warpers, strict=True)):
            if not warpers or request.done:
                continue
            row_scores = scores[row : row + 1]
            for warper in warpers:
                row_scores = warper(input_ids[row : row + 1], row_scores)
            probs = row_scores.float().softmax(-1)[0].cpu()
            token = torch.multinomial(probs, 1, generator=request.random)
            scores[row] = -torch.inf
            scores[row, int(token)] = 0
        return scores
