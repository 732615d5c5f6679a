"""Generation requests that record their events."""

import threading
from typing import Any

from xft.models import TextGenerator
from xft.serving.server.requests import GenerationEvent, GenerationRequest, Sampling


class EventRecorder:
    """Callback that records the events of a request.

    Attributes:
        events: events so far.
        ended: set at the end of the answer.
    """

    def __init__(self) -> None:
        self.events: list[GenerationEvent] = []
        self.ended = threading.Event()

    def __call__(self, event: GenerationEvent) -> None:
        self.events.append(event)
        if event.finish_reason or event.error:
            self.ended.set()

    @property
    def text(self) -> str:
        """Text of all events."""
        return "".join(event.text for event in self.events)


def make_request(
    generator: TextGenerator, prompt: str = "ab", **sampling: Any
) -> tuple[GenerationRequest, EventRecorder]:
    """Create a request of at most 8 tokens, and the recorder of its events."""
    recorder = EventRecorder()
    ids = generator.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return GenerationRequest(generator, ids, Sampling(**{"max_tokens": 8, **sampling}), recorder), recorder
