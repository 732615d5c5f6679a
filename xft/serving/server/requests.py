"""One answer that is asked for: what is wanted, how far it has come, and who hears of it."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from xft.models import TextGenerator

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How the tokens of an answer are chosen, and where it ends.

    Attributes:
        max_tokens: the most tokens of it.
        temperature: 0 takes the likeliest token each time.
        top_p: of the likeliest tokens, so many that their probabilities reach this are in the draw
            (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751).
        seed: of the draw; ``None`` draws another one each time.
        stop: texts before which the answer ends.
        strip: leave out white space at both ends, as the chat does.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    strip: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """News of an answer.

    Attributes:
        text: what is new of it.
        finish: why it ended; ``None`` while it goes on.
        error: what went wrong, which ends it too.
    """

    text: str = ""
    finish: Finish | None = None
    error: str | None = None


@dataclass(eq=False)
class Job:
    """An answer in the making.

    Attributes:
        generator: who gives it.
        prompt: the tokens before it.
        sampling: how.
        tell: hears of news, in the thread that generates.
        generated: its tokens so far.
        done: whether nothing more will come.
    """

    generator: TextGenerator
    prompt: Sequence[int]
    sampling: Sampling
    tell: Callable[[Event], None]
    generated: list[int] = field(default_factory=list)
    done: bool = False

    def __post_init__(self) -> None:
        seed = secrets.randbits(63) if self.sampling.seed is None else self.sampling.seed
        self.random = torch.Generator().manual_seed(seed % 2**63)
        self._sent = ""

    def take(self, token: int) -> None:
        """Add a token, and tell what it brings."""
        self.generated.append(token)
        stopped = token in self.generator.stop_ids
        full = len(self.generated) >= self.sampling.max_tokens
        text = self._text(self.generated[:-1] if stopped else self.generated)
        at = self._stop_at(text)
        if at is not None:
            text, stopped = text[:at], True
        if self.sampling.strip and (stopped or full):
            text = text.rstrip()
        finish: Finish | None = "stop" if stopped else ("length" if full else None)
        fresh = self._fresh(text, finish is not None)
        self.done = finish is not None
        if fresh or self.done:
            self._sent += fresh
            self.tell(Event(fresh, finish))

    def fail(self, error: str) -> None:
        """End it with an error."""
        self.done = True
        self.tell(Event(error=error))

    def cancel(self) -> None:
        """Nobody listens any more. May be called from another thread."""
        self.done = True

    def _text(self, ids: Sequence[int]) -> str:
        # Decoded as a whole each time, as the chat does at the end: a tokenizer may write the same token
        # in another way behind other tokens.
        text = str(self.generator.tokenizer.decode(list(ids), skip_special_tokens=True))
        return text.lstrip() if self.sampling.strip else text

    def _stop_at(self, text: str) -> int | None:
        found = [text.find(each) for each in self.sampling.stop]
        return min((each for each in found if each >= 0), default=None)

    def _fresh(self, text: str, last: bool) -> str:
        """What may be told of a text: not what a later token may still change, cut off or strip."""
        if not last:
            held = 0
            if text.endswith("\ufffd"):  # a character of which not all bytes are there
                held = len(text) - len(text.rstrip("\ufffd"))
            for stop in self.sampling.stop:
                held = max([held, *(n for n in range(1, len(stop)) if text.endswith(stop[:n]))])
            text = text[: len(text) - held]
            if self.sampling.strip:
                text = text.rstrip()
        return text[len(self._sent) :] if text.startswith(self._sent) else ""


def answer_of(events: Sequence[Event]) -> str:
    """The whole text of an answer."""
    return "".join(each.text for each in events)


class RowSampler:
    """Chooses the next token of each row in its own way, for ``generate`` (a logits processor).

    A row with a temperature is drawn with random numbers of its own, so that a seed gives the same
    answer whoever else is in the batch. The one that was drawn is all that is left of its row.

    Args:
        jobs: of the rows.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        self.jobs = jobs
        self._warpers: list[list[Any]] = []
        for each in jobs:
            own: list[Any] = []
            if each.sampling.temperature > 0:
                own.append(TemperatureLogitsWarper(each.sampling.temperature))
                if each.sampling.top_p < 1:
                    own.append(TopPLogitsWarper(each.sampling.top_p))
            self._warpers.append(own)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of shape ``(rows, vocabulary)``, of which the greatest of each row will be taken."""
        scores = scores.clone()
        for row, (job, warpers) in enumerate(zip(self.jobs, self._warpers, strict=True)):
            if not warpers or job.done:
                continue
            own = scores[row : row + 1]
            for each in warpers:
                own = each(input_ids[row : row + 1], own)
            drawn = torch.multinomial(own.float().softmax(-1)[0].cpu(), 1, generator=job.random)
            scores[row] = -torch.inf
            scores[row, int(drawn)] = 0
        return scores
