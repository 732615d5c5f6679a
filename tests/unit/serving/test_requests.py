"""Generation requests: sampling of rows, streamed text."""

import pytest
import torch
from helpers.generation_requests import make_request

from xft.models import TextGenerator
from xft.serving.server.requests import RowSampler


def test_row_sampler_draws_with_the_probabilities_of_the_formula(generator: TextGenerator) -> None:
    """softmax(scores / T), cut to the nucleus. Of 0.4, 0.3, 0.2, 0.1 with top_p=0.6 the first two remain, with
    probabilities 4/7 and 3/7."""
    scores = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()[None]
    counts = torch.zeros(4)
    request, _ = make_request(generator, temperature=2.0, top_p=0.6, seed=1)
    sampler = RowSampler([request])
    for _ in range(3000):
        counts[sampler(torch.zeros(1, 1).long(), 2 * scores).argmax()] += 1
    assert counts[2:].tolist() == [0, 0]
    # The standard deviation is sqrt(p q / n) = 0.009; the bound is four times that.
    assert counts[0] / 3000 == pytest.approx(4 / 7, abs=0.036)


def test_row_sampler_at_temperature_zero_keeps_the_scores(generator: TextGenerator) -> None:
    scores = torch.tensor([[0.4, 0.3]]).log()
    request, _ = make_request(generator)
    assert torch.equal(RowSampler([request])(torch.zeros(1, 1).long(), scores), scores)


@pytest.mark.parametrize("stop", ["e f", "\nx", "€"])
def test_add_token_sends_neither_stop_texts_nor_incomplete_characters(
    generator: TextGenerator, stop: str
) -> None:
    text = f"  ä e {stop} and more"
    request, recorder = make_request(generator, max_tokens=99, stop=("e and", stop))
    for token in generator.tokenizer(text, add_special_tokens=False)["input_ids"]:
        if not request.done:
            request.add_token(token)
    assert recorder.text == text[: text.index(stop)].strip()
    assert recorder.events[-1].finish_reason == "stop"
    assert "\ufffd" not in recorder.text
