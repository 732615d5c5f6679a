"""MMEngine's strategy and runner without their logs, checkpoints and global state."""

import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.visualization import Visualizer
from torch import nn

from xft.compat.mmengine import Hook, RunnerBase, StrategyBase


class PlainStrategy(StrategyBase):
    """One rank that prepares nothing."""

    rank = 0
    world_size = 1

    def prepare(self, model: nn.Module, **_: Any) -> None:
        """Do nothing."""


@pytest.fixture
def strategy(tmp_path: Path) -> PlainStrategy:
    return PlainStrategy(work_dir=str(tmp_path), env_kwargs={"seed": 5})


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The messages that reach ``train.log``."""
    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Collect()
    logging.getLogger("xft.runner").addHandler(handler)
    yield messages
    logging.getLogger("xft.runner").removeHandler(handler)


def make_runner(strategy: PlainStrategy, *hooks: Hook) -> RunnerBase:
    return RunnerBase(
        model=nn.Linear(2, 2), strategy=strategy, hooks=hooks, config={"seed": 5, "path": Path("a")}
    )


def test_strategy_seeds_nothing_and_writes_nothing(tmp_path: Path) -> None:
    states = random.getstate(), torch.get_rng_state()
    strategy = PlainStrategy(work_dir=str(tmp_path), env_kwargs={"seed": 5})
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert (strategy.seed, strategy.launcher, strategy.distributed) == (5, "none", False)
    assert list(tmp_path.iterdir()) == []


def test_strategies_of_the_same_run_folder_have_different_names(tmp_path: Path) -> None:
    names = {
        PlainStrategy(work_dir=str(tmp_path), env_kwargs={"seed": 5}).experiment_name for _ in range(3)
    }
    assert len(names) == 3


@pytest.mark.parametrize("method", ["save_checkpoint", "resume", "load_checkpoint"])
def test_strategy_refuses_checkpoints_of_mmengine(strategy: PlainStrategy, method: str) -> None:
    with pytest.raises(NotImplementedError):
        getattr(strategy, method)("file")


def test_runner_has_the_given_hooks_only(strategy: PlainStrategy) -> None:
    class Counter(Hook):
        """A hook."""

    hook = Counter()
    assert make_runner(strategy, hook).hooks == [hook]
    assert make_runner(strategy).hooks == []


def test_runner_logs_the_config_to_the_file_and_not_to_the_terminal(
    strategy: PlainStrategy, log: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_runner(strategy)
    assert {"seed": 5, "path": "a"} in [json.loads(message) for message in log if message.startswith("{")]
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    assert not logging.getLogger("xft.runner").propagate


def test_runner_writes_no_files(strategy: PlainStrategy, tmp_path: Path) -> None:
    runner = make_runner(strategy)
    runner.dump_config()
    assert list(tmp_path.iterdir()) == []


def test_runner_visualizer_has_no_backends(strategy: PlainStrategy) -> None:
    visualizer = make_runner(strategy).visualizer
    assert isinstance(visualizer, Visualizer)
    assert visualizer._vis_backends == {}
    visualizer.add_scalar("loss", 1.0)  # as a hook written for MMEngine does
