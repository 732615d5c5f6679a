"""Batched generation of concurrent requests with transformers' ``generate``.

Requests of one model are decoded together in one call of ``generate``. If others are queued, the call returns after
:data:`PREEMPT_EVERY_TOKENS` tokens, and the next call includes them; unfinished sequences continue from their
generated tokens. Short requests are therefore not blocked by long ones.

Why not transformers' continuous batching (tried with 5.23): it replaces the attention that the model was trained
with, has no seed per request, and cannot disable an adapter.
"""

from collections.abc import Sequence
from itertools import count
from threading import Condition, Thread

import torch

from xft.models import TextGenerator
from xft.serving.server.requests import GenerationRequest, RowSampler
from xft.utils.console import LOGGER

PREEMPT_EVERY_TOKENS = 32
"""Number of decoding steps between two checks of the queue."""
BATCH_WINDOW_S = 0.01
"""Time that the first request of a batch waits for others, in seconds."""


class QueueFull(Exception):
    """The queue has no space for further requests."""


class Batcher:
    """Generates answers to queued requests in a thread.

    Args:
        max_batch_size: maximum number of sequences decoded together.
        max_queue_size: maximum number of queued requests.

    Attributes:
        largest_batch: largest number of sequences in one call so far.
    """

    def __init__(self, max_batch_size: int, max_queue_size: int) -> None:
        self.max_batch_size = max_batch_size
        self.max_queue_size = max_queue_size
        self.largest_batch = 0
        self._queue: list[GenerationRequest] = []
        self._batch: list[GenerationRequest] = []
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._run, name="xft-generate", daemon=True)
        self._thread.start()

    def submit(self, requests: Sequence[GenerationRequest]) -> None:
        """Queue all requests, or none.

        Raises:
            QueueFull: the queue has no space for all of them.
        """
        with self._changed:
            self._queue = [request for request in self._queue if not request.done]
            if len(self._queue) + len(requests) > self.max_queue_size:
                raise QueueFull(f"queue full: {len(self._queue)} of {self.max_queue_size} requests")
            self._queue += requests
            self._changed.notify()

    def num_unfinished(self) -> int:
        """Return the number of requests that are queued or being generated."""
        with self._changed:
            return sum(not request.done for request in [*self._queue, *self._batch])

    def close(self) -> None:
        """Stop the thread and fail all unfinished requests."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                self._generate(batch[0].generator, batch)
            except Exception as error:  # noqa: BLE001 - reported to the client of each request
                LOGGER.error("error: %s: %s", type(error).__name__, error)
                first_line = str(error).splitlines()[0] if str(error) else ""
                for request in batch:
                    if not request.done:
                        request.fail(f"{type(error).__name__}: {first_line}")
            with self._changed:
                # At the end of the queue, so that two models take turns.
                self._queue += [request for request in batch if not request.done]
                self._batch = []

    def _next_batch(self) -> list[GenerationRequest] | None:
        """Wait for the oldest request and further ones of its model; return ``None`` after :meth:`close`."""
        with self._changed:
            while True:
                self._queue = [request for request in self._queue if not request.done]
                if self._closed:
                    for request in self._queue:
                        request.fail("the server is shutting down")
                    return None
                if self._queue:
                    break
                self._changed.wait()
                self._changed.wait(BATCH_WINDOW_S)
            generator = self._queue[0].generator
            batch = [request for request in self._queue if request.generator is generator]
            self._batch = batch[: self._capacity(generator)]
            self._queue = [request for request in self._queue if request not in self._batch]
            return self._batch

    def _generate(self, generator: TextGenerator, batch: Sequence[GenerationRequest]) -> None:
        """Continue a batch until all of its requests are finished or it is preempted."""
        from transformers import LogitsProcessorList, StoppingCriteriaList

        self.largest_batch = max(self.largest_batch, len(batch))
        prompts = [[*request.prompt, *request.generated] for request in batch]
        steps = count(1)

        def stop(input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
            for request, token in zip(batch, input_ids[:, -1].tolist(), strict=True):
                if not request.done:
                    request.add_token(token)
            check_queue = next(steps) % PREEMPT_EVERY_TOKENS == 0
            preempt = self._closed or (check_queue and self._should_preempt(generator, batch))
            return torch.tensor([preempt or request.done for request in batch], device=input_ids.device)

        generator.generate(
            prompts,
            max(request.sampling.max_tokens - len(request.generated) for request in batch),
            images=[request.images for request in batch],
            logits_processor=LogitsProcessorList([RowSampler(batch)]),
            stopping_criteria=StoppingCriteriaList([stop]),
        )

    def _should_preempt(self, generator: TextGenerator, batch: Sequence[GenerationRequest]) -> bool:
        """Return whether the next call would include a queued request."""
        with self._changed:
            has_space = sum(not request.done for request in batch) < self._capacity(generator)
            return any(has_space or request.generator is not generator for request in self._queue)

    def _capacity(self, generator: TextGenerator) -> int:
        return min(self.max_batch_size, generator.max_batch_size or self.max_batch_size)
