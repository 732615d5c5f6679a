"""Several answers at once, on transformers' ``generate``.

transformers has continuous batching of its own, which was tried (5.23): it wants its own attention in
place of the one that was trained with, has no seed of a request's own, and cannot switch an adapter off.
Here, rows that begin together are one call of ``generate``; where others wait, the call ends after some
tokens and the next one takes them in, its rows going on from what they have. Nobody so waits for the
end of somebody else's long answer.
"""

from collections.abc import Sequence
from itertools import count
from threading import Condition, Thread
from typing import Any

import torch

from xft.models import TextGenerator
from xft.serving.server.requests import Job, RowSampler
from xft.utils.console import LOGGER

SLICE = 32
"""Tokens after which a call of ``generate`` looks whether others wait."""
GATHER = 0.01
"""Seconds that the first of a batch waits for others."""


class Full(Exception):
    """Too many wait already."""


class Batcher:
    """Answers what is asked, in a thread of its own.

    Args:
        max_batch_size: the most answers at once.
        max_queue_size: the most that wait for their turn.
    """

    def __init__(self, max_batch_size: int, max_queue_size: int) -> None:
        self.max_batch_size = max_batch_size
        self.max_queue_size = max_queue_size
        self._waiting: list[Job] = []
        self._news = Condition()
        self._ended = False
        self.largest = 0
        """The most rows that one call has had."""
        self._thread = Thread(target=self._work, name="xft-generate", daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let jobs wait for their turn: all of them, or none.

        Raises:
            Full: too many wait already.
        """
        with self._news:
            if len(self._waiting) + len(jobs) > self.max_queue_size:
                raise Full(f"{len(self._waiting)} answers wait already, and {self.max_queue_size} may")
            self._waiting += jobs
            self._news.notify()

    def close(self) -> None:
        """End the thread, and every answer that is not finished."""
        with self._news:
            self._ended = True
            self._news.notify()
        self._thread.join(timeout=30)

    def _work(self) -> None:
        while (jobs := self._next()) is not None:
            try:
                self._generate(jobs[0].generator, jobs)
            except Exception as error:  # noqa: BLE001 - each of the askers is told
                LOGGER.error("error: %s: %s", type(error).__name__, error)
                for each in jobs:
                    if not each.done:
                        each.fail(
                            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                        )
            with self._news:
                # Behind those who came meanwhile: with two models, each has its turn.
                self._waiting += [each for each in jobs if not each.done]

    def _next(self) -> list[Job] | None:
        """The oldest job, and as many others of the same model as may be; ``None`` at the end."""
        with self._news:
            while True:
                self._waiting = [each for each in self._waiting if not each.done]
                if self._ended:
                    for each in self._waiting:
                        each.fail("the server is shutting down")
                    return None
                if self._waiting:
                    break
                self._news.wait()
                self._news.wait(GATHER)
            first = self._waiting[0]
            jobs = [each for each in self._waiting if each.generator is first.generator][
                : self.max_batch_size
            ]
            self._waiting = [each for each in self._waiting if each not in jobs]
            return jobs

    def _generate(self, generator: TextGenerator, jobs: Sequence[Job]) -> None:
        """Go on with answers until all are finished, or others should be taken in."""
        from transformers import LogitsProcessorList, StoppingCriteriaList

        self.largest = max(self.largest, len(jobs))
        prompts = [[*each.prompt, *each.generated] for each in jobs]
        steps = count(1)

        def stop(input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            for job, token in zip(jobs, input_ids[:, -1].tolist(), strict=True):
                if not job.done:
                    job.take(token)
            leave = self._ended or (next(steps) % SLICE == 0 and self._should_leave(generator, jobs))
            return torch.tensor([leave or each.done for each in jobs], device=input_ids.device)

        generator.generate(
            prompts,
            max(each.sampling.max_tokens - len(each.generated) for each in jobs),
            logits_processor=LogitsProcessorList([RowSampler(jobs)]),
            stopping_criteria=StoppingCriteriaList([stop]),
        )

    def _should_leave(self, generator: TextGenerator, jobs: Sequence[Job]) -> bool:
        """Whether somebody waits whom the next call would take in."""
        with self._news:
            room = sum(not each.done for each in jobs) < self.max_batch_size
            return any(room or each.generator is not generator for each in self._waiting)
