import pytest

from xft.errors import ConfigError
from xft.training.hooks import ProgressHook
from xft.training.hooks.periodic import PeriodicHook


def _due_steps(hook: PeriodicHook, num_steps: int) -> list[int]:
    return [step for step in range(1, num_steps + 1) if hook.is_due(step, num_steps)]


@pytest.mark.parametrize(
    ("interval", "times", "num_steps", "due"),
    [
        (4, 99, 10, [4, 8, 10]),
        (100, 99, 3, [3]),
        (None, 5, 20, [4, 8, 12, 16, 20]),
        (None, 5, 1, [1]),
        (None, 5, 2, [2]),
        (None, 5, 3, [3]),
        (None, 5, 4, [2, 4]),
        (None, 5, 5, [3, 5]),
        (None, 5, 7, [4, 7]),
        (None, 5, 12, [4, 8, 12]),
        (None, 2, 7, [4, 7]),
        (None, 2, 91, [46, 91]),
        (None, 5, 91, [18, 36, 54, 72, 91]),
        (18, 5, 91, [18, 36, 54, 72, 90, 91]),
    ],
)
def test_is_due_at_intervals_and_at_the_last_step(
    interval: int | None, times: int, num_steps: int, due: list[int]
) -> None:
    hook = PeriodicHook(interval, times)
    assert _due_steps(hook, num_steps) == due
    assert hook.count_calls(num_steps) == len(due)


def test_progress_has_a_line_for_every_step_of_a_short_run() -> None:
    assert _due_steps(ProgressHook(), 7) == [1, 2, 3, 4, 5, 6, 7]


def test_interval_below_one_raises_config_error() -> None:
    with pytest.raises(ConfigError) as error:
        PeriodicHook(0, times=5)
    assert (error.value.key, error.value.got) == ("interval", 0)
