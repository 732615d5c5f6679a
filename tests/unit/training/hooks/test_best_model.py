"""Which validation of a run was best, and whether the last one is worse."""

import pytest

from xft.errors import ConfigError
from xft.training.hooks.best_model import FRESH, BestModel

NAN = float("nan")


def tracker(metric: str = "loss", greater_is_better: bool | None = None) -> BestModel:
    return BestModel(metric, greater_is_better, dict(FRESH))


@pytest.mark.parametrize(
    ("metric", "greater_is_better", "values", "improved", "best_step"),
    [
        ("loss", None, [3.0, 2.0, 1.0, 1.5], [False, True, True, False], 2),
        ("eval_loss", None, [3.0, 2.0, 1.0], [False, True, True], 2),
        ("perplexity", None, [9.0, 8.0, 8.0], [False, True, False], 1),
        ("score", None, [0.0, 5.0, 7.0, 6.0], [False, True, True, False], 2),
        ("rewards/accuracies", None, [0.5, 0.4, 0.6], [False, True, True], 2),
        ("loss", True, [3.0, 2.0, 1.0], [False, True, False], 1),
        ("score", False, [3.0, 2.0, 1.0], [False, True, True], 2),
        ("loss", None, [NAN, NAN, 2.0, NAN], [False, False, True, False], 2),
    ],
)
def test_add_returns_whether_the_model_is_the_best_so_far(
    metric: str,
    greater_is_better: bool | None,
    values: list[float],
    improved: list[bool],
    best_step: int,
) -> None:
    """Step 0 has no checkpoint, so it is never the best."""
    best = tracker(metric, greater_is_better)
    assert [best.add(step, {metric: value}, step > 0) for step, value in enumerate(values)] == improved
    assert best.state["best_step"] == best_step


def test_model_before_the_first_update_is_never_the_best() -> None:
    best = tracker()
    assert not best.add(0, {"loss": 3.0}, has_updated=False)
    assert not best.add(1, {"loss": 2.9}, has_updated=False)
    assert best.add(2, {"loss": 4.0}, has_updated=True)
    assert (best.state["best_step"], best.state["initial_value"]) == (2, 3.0)
    assert not best.beats_initial
    assert best.add(3, {"loss": 2.0}, has_updated=True)
    assert best.beats_initial


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ([], ""),
        ([3.0], ""),
        ([3.0, 2.0, 1.0], ""),
        ([3.0, 1.0, 1.0], ""),
        ([3.0, 1.0, 2.0], "loss 2.0000 at step 2, 1.0000 at step 1"),
        ([0.5, 1.0, 2.0], "loss 2.0000 at step 2, 0.5000 at step 0, before training"),
        ([0.5, 1.0], "loss 1.0000 at step 1, 0.5000 at step 0, before training"),
        ([3.0, 1.0, NAN], "loss nan at step 2, 1.0000 at step 1"),
        ([NAN, NAN], ""),
    ],
)
def test_describe_decline_names_both_steps(values: list[float], note: str) -> None:
    best = tracker()
    for step, value in enumerate(values):
        best.add(step, {"loss": value}, step > 0)
    assert best.describe_decline().partition(": ")[2] == note


def test_unknown_metric_is_an_error_at_the_first_validation() -> None:
    with pytest.raises(ConfigError) as error:
        tracker("los").add(0, {"loss": 1.0, "perplexity": 2.0}, has_updated=False)
    assert error.value.key == "hooks.checkpoint.metric_for_best_model"
    assert error.value.expected == "one of loss, perplexity, score"
