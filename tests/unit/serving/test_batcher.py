"""Batched generation: preemption, a full queue, failures."""

from typing import Any

import pytest
from helpers.generation_requests import make_request

from xft.models import TextGenerator
from xft.serving.server.batcher import PREEMPT_EVERY_TOKENS, Batcher, QueueFull


def test_batcher_finishes_short_request_before_running_long_one(generator: TextGenerator) -> None:
    batcher = Batcher(max_batch_size=2, max_queue_size=4)
    try:
        long, long_recorder = make_request(generator, max_tokens=1500, temperature=9.0, seed=1)
        short, short_recorder = make_request(generator, "b", max_tokens=3, temperature=9.0, seed=2)
        batcher.submit([long])
        while not long_recorder.events:
            pass
        batcher.submit([short])
        assert short_recorder.ended.wait(60)
        assert not long_recorder.ended.is_set()
        assert len(long.generated) >= PREEMPT_EVERY_TOKENS
        assert batcher.largest_batch == 2
        long.cancel()
        alone, alone_recorder = make_request(generator, "b", max_tokens=3, temperature=9.0, seed=2)
        batcher.submit([alone])
        assert alone_recorder.ended.wait(60)
        assert alone_recorder.text == short_recorder.text
    finally:
        batcher.close()


def test_preempted_generation_matches_uninterrupted(generator: TextGenerator) -> None:
    texts = []
    for preempted in (False, True):
        batcher = Batcher(max_batch_size=4, max_queue_size=9)
        try:
            request, recorder = make_request(
                generator, max_tokens=4 * PREEMPT_EVERY_TOKENS, temperature=1.0, seed=7
            )
            batcher.submit([request])
            if preempted:
                while not recorder.events:
                    pass
                batcher.submit(
                    [make_request(generator, "xyz" * n, max_tokens=40, temperature=2.0)[0] for n in (1, 2)]
                )
            assert recorder.ended.wait(60)
            texts.append(recorder.text)
        finally:
            batcher.close()
    assert texts[0] == texts[1]


def test_submit_over_the_queue_size_raises_and_queues_nothing(generator: TextGenerator) -> None:
    batcher = Batcher(max_batch_size=2, max_queue_size=2)
    try:
        requests = [make_request(generator) for _ in range(3)]
        with pytest.raises(QueueFull):
            batcher.submit([request for request, _ in requests])
        assert not any(recorder.events for _, recorder in requests)
    finally:
        batcher.close()


def test_failed_generation_fails_each_request_of_the_batch(
    generator: TextGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(generator, "generate", fail)
    batcher = Batcher(max_batch_size=2, max_queue_size=2)
    try:
        requests = [make_request(generator) for _ in range(2)]
        batcher.submit([request for request, _ in requests])
        for _, recorder in requests:
            assert recorder.ended.wait(10)
            assert recorder.events[-1].error == "RuntimeError: out of memory"
    finally:
        batcher.close()
