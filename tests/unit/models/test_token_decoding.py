"""Logits token by token are those of one forward pass, with a cache and without."""

import pytest
import torch
from helpers.models import tiny_family
from torch import Tensor, nn

from xft.models.token_decoding import TokenDecoder

ROWS = [[9, 5, 7, 11, 4, 8, 30], [20, 21, 22, 23, 24, 25, 26]]


def _last(model: nn.Module, ids: list[int]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    return logits


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("family", ["llama", "mamba", "rwkv", "falcon_h1"])
def test_continuations_that_are_repeated_and_dropped_have_the_logits_of_a_forward_pass(
    family: str, use_cache: bool
) -> None:
    model = tiny_family(family).eval()
    begin, lengths = 3, []

    def compute(**arguments: Tensor) -> Tensor:
        lengths.append(arguments["input_ids"].shape[1])
        logits: Tensor = model(**arguments).logits[:, -1]
        return logits

    with torch.no_grad():
        decoder = TokenDecoder(
            model, compute, [row[:begin] for row in ROWS], repeats=2, use_cache=use_cache
        )
        logits = decoder.prefill()
        rows = [0, 0, 1, 1]
        for end in range(begin, len(ROWS[0]) + 1):
            for row, result in zip(rows, logits, strict=True):
                torch.testing.assert_close(result, _last(model, ROWS[row][:end]), rtol=0, atol=1e-3)
            if end == len(ROWS[0]):
                break
            if end > begin:
                kept = [-1, 0] if end == begin + 1 else [0]
                decoder.keep(torch.tensor(kept) % len(rows))
                rows = [rows[index] for index in kept]
            logits = decoder.step(torch.tensor([ROWS[row][end] for row in rows]))
    cached = use_cache and family != "rwkv"
    assert lengths == ([3, 1, 1, 1, 1] if cached else [3, 4, 5, 6, 7])


def test_shorter_prompts_are_padded_on_the_left() -> None:
    model = tiny_family("llama").eval()
    prompts = [[9, 5, 7, 11], [4, 8]]
    with torch.no_grad():
        decoder = TokenDecoder(model, lambda **arguments: model(**arguments).logits[:, -1], prompts)
        results = [decoder.prefill(), decoder.step(torch.tensor([6, 7]))]
    for result, ends in zip(results, ([[], []], [[6], [7]]), strict=True):
        for logits, prompt, end in zip(result, prompts, ends, strict=True):
            torch.testing.assert_close(logits, _last(model, [*prompt, *end]), rtol=0, atol=1e-3)
