"""Outputs of a saved model, and the files that carry them between processes."""

from pathlib import Path

import torch
from helpers.preferences import pair_samples, plain_scores, reward_model

from xft.export.verify.worker import VerifyResult, compute_logits, read_result, write_result


def test_read_result_returns_the_written_result(tmp_path: Path) -> None:
    result = VerifyResult(["text"], [[1, 2]], [3], {"up": 0.125}, True, torch.randn(1, 2, 5))
    write_result(result, tmp_path)
    loaded = read_result(tmp_path)
    assert torch.equal(loaded.logits, result.logits)
    assert {**vars(loaded), "logits": None} == {**vars(result), "logits": None}


def test_compute_logits_of_reward_model_returns_pairs_of_scores() -> None:
    model = reward_model(bare=True)
    rows = [sample.input_ids.tolist() for sample in pair_samples()[:3]]
    first, second, third = plain_scores(model, pair_samples()[:3]).tolist()
    choices = compute_logits(model, rows)
    expected = torch.tensor([[[first, second], [first, third], [second, third]]])
    torch.testing.assert_close(choices, expected, rtol=1e-5, atol=1e-5)
