"""Distances between logits, and between scores of reward models."""

import math

import pytest
import torch
from helpers.tolerances import tolerance
from torch.nn.functional import kl_div

from xft.errors import CheckpointError
from xft.export.verify.comparison import compare
from xft.export.verify.merge_check import Tolerance, compare_merged


def test_compare_kl_and_agreement_match_torch() -> None:
    torch.manual_seed(1)
    p, q = torch.randn(1, 9, 30), torch.randn(1, 9, 30)
    comparison = compare(p, q)
    logs = [logits.double().log_softmax(-1)[0] for logits in (q, p)]
    assert comparison.kl == pytest.approx(float(kl_div(*logs, reduction="batchmean", log_target=True)))
    same = sum(int(p[0, at].argmax() == q[0, at].argmax()) for at in range(9))
    assert comparison.agreement == pytest.approx(same / 9)


def test_explain_states_what_was_compared_and_how_often_they_agree() -> None:
    logits = torch.tensor([[[1.0, 2.0], [4.0, 3.0], [1.0, 2.0], [1.0, 2.0]]])
    start = "the exported model was loaded and compared with the trained one: it"
    assert compare(logits, logits).explain() == f"{start} gives exactly the same outputs"
    other = logits.clone()
    other[0, 0, 0] = 3.0
    assert (
        compare(logits, other)
        .explain()
        .startswith(
            f"{start} predicts the same next token at 75% of positions (largest difference of the logits: 2, with values up to 4;"
        )
    )
    assert "prefers the same answer in 75% of pairs" in compare(logits, other, scored=True).explain()


def test_compare_scores_as_bradley_terry_preferences() -> None:
    """Scores 0, ln 3 and ln 9: the better of two neighbours wins with 3/4, the third over the first
    with 9/10. A fourth of the difference between the last two is lost: 9 becomes 3^1.75."""
    live = torch.tensor([0.0, math.log(3), math.log(9)])
    saved = torch.tensor([0.0, math.log(3), 1.75 * math.log(3)])
    comparison = compare(*(torch.combinations(scores, 2)[None] for scores in (live, saved)), scored=True)

    def divergence(p: float, q: float) -> float:
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    other = [3**power / (1 + 3**power) for power in (1.0, 1.75, 0.75)]
    expected = [divergence(p, q) for p, q in zip((3 / 4, 9 / 10, 3 / 4), other, strict=True)]
    assert comparison.kl == pytest.approx(sum(expected) / 3, rel=tolerance(torch.float32, 8))
    assert comparison.max_difference == pytest.approx(math.log(3) / 4, rel=tolerance(torch.float32, 8))
    assert comparison.agreement == 1.0
    assert str(comparison).startswith("scores differ by at most 0.27 (largest 2.2), KL ")
    assert str(comparison).endswith(" nats, same preference in 100% of pairs")
    turned = torch.combinations(saved[[1, 0, 2]], 2)[None]
    pair = [torch.combinations(live, 2)[None]], [turned]
    assert compare(*pair[0], *pair[1]).agreement == pytest.approx(2 / 3)
    assert compare_merged(*pair, Tolerance(1.0, 0.9), "run", scored=True).agreement < 0.9
    with pytest.raises(CheckpointError) as error:
        compare_merged(*pair, Tolerance(0.1, 0.9), "run", scored=True)
    assert error.value.expected == "KL of at most 0.1 nats"
