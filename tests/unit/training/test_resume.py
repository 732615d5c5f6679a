"""A run that goes on with other ranks keeps its steps."""

import pytest

from xft.errors import ConfigError
from xft.run_config.config import Training
from xft.training.resume import refit

PORTIONS = {"world_size": 4, "window": 24, "batch_size": 2, "capacity": 512}


@pytest.mark.parametrize(
    ("world_size", "accumulation", "line"),
    [
        (1, 24, "the random numbers of ranks 1 to 3 are let go"),
        (3, 8, "the random numbers of rank 3 are let go"),
        (8, 3, "the random numbers of ranks 4 to 7 begin with the seed"),
    ],
)
def test_a_step_stays_what_it_was(world_size: int, accumulation: int, line: str) -> None:
    wanted = Training(micro_batch_size=8, gradient_accumulation_steps=16, max_grad_norm=0.5)
    training, length, lines = refit(wanted, 1024, PORTIONS, world_size)
    assert training.gradient_accumulation_steps * world_size == PORTIONS["window"]
    assert (training.gradient_accumulation_steps, training.micro_batch_size, length) == (
        accumulation,
        2,
        512,
    )
    assert (training.min_steps_per_epoch, training.max_grad_norm) == (0, 0.5)
    assert lines == [
        f"the run began on 4 ranks and goes on with {world_size}: accumulation 6 → {accumulation}, so that a "
        "step stays what it was",
        line,
    ]


def test_on_the_same_ranks_the_config_stays_as_it_is() -> None:
    wanted = Training(gradient_accumulation_steps=16)
    assert refit(wanted, 1024, PORTIONS, 4) == (wanted, 1024, [])


def test_ranks_that_cannot_share_a_step_are_refused_with_those_that_can() -> None:
    with pytest.raises(
        ConfigError, match=r"24 micro-batches, which 5 ranks .* 1, 2, 3, 4, 6, 8, 12 or 24 ranks"
    ):
        refit(Training(), 1024, PORTIONS, 5)
