import math
import os
import signal
from pathlib import Path

import pytest
from helpers.runner import FakeRunner

from xft.checkpoint.checkpointer import Checkpointer
from xft.checkpoint.resume_state import RunState
from xft.checkpoint.writer import SaveResult
from xft.errors import CheckpointError, ConfigError, RunInterrupted
from xft.training.hooks import CheckpointHook
from xft.utils import console


class FakeCheckpointer(Checkpointer):
    """Finish each save at the next ``wait`` or ``poll``, and write nothing.

    Attributes:
        saves: step, ``is_best`` and ``save_optimizer_state`` of each save.
        failing: steps whose save fails.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.saves: list[tuple[int, bool, bool]] = []
        self.failing: set[int] = set()
        self._result: SaveResult | None = None

    def save(
        self,
        state: RunState,
        save_total_limit: int,
        is_best: bool = False,
        save_optimizer_state: bool = True,
        block: bool = False,
    ) -> None:
        self.saves.append((state.step, is_best, save_optimizer_state))
        error = OSError("disk full\nmore") if state.step in self.failing else None
        self._result = SaveResult(state.step, error)

    def poll(self) -> SaveResult | None:
        result, self._result = self._result, None
        return result

    def wait(self) -> None:
        pass

    def check_disk_space(self, save_total_limit: int, save_optimizer_state: bool) -> None:
        pass

    def close(self, cancel: bool) -> None:
        pass


class Training:
    """Steps of a run with the hook.

    Attributes:
        lines: lines of the log.
    """

    def __init__(self, hook: CheckpointHook, folder: Path, num_steps: int = 10) -> None:
        self.hook, self.runner = hook, FakeRunner(num_steps=num_steps, work_dir=folder)
        self.checkpointer = FakeCheckpointer(folder / "checkpoints")
        self.runner.checkpointer = self.checkpointer
        hook.before_run(self.runner)

    def step(self, val_loss: float | None = None) -> None:
        self.runner.train_loop.step += 1
        if val_loss is not None:
            self.hook.after_validation(self.runner, {"loss": val_loss})
        self.hook.after_step(self.runner)

    @property
    def best(self) -> tuple[int, float]:
        """Step and value of the best checkpoint."""
        state = self.runner.state["checkpoint"]
        return state["best_step"], state["best_value"]

    @property
    def saved_folders(self) -> list[str]:
        return [arguments["folder"].name for name, arguments in self.runner.calls if name == "after_save"]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    return lines


def test_save_at_intervals_and_at_the_end(tmp_path: Path, lines: list[str]) -> None:
    training = Training(CheckpointHook(interval=4), tmp_path)
    with training.runner.cleanup:
        for _ in range(10):
            training.step()
        training.hook.after_train(training.runner)
    assert [step for step, _, _ in training.checkpointer.saves] == [4, 8, 10]
    assert training.saved_folders == ["step_4", "step_8", "step_10"]
    before = [arguments["step"] for name, arguments in training.runner.calls if name == "before_save"]
    assert before == [4, 8, 10]


def test_better_validation_saves_the_best_checkpoint(tmp_path: Path, lines: list[str]) -> None:
    training = Training(CheckpointHook(interval=99), tmp_path)
    loop = training.runner.train_loop
    loop.has_updated = False
    training.hook.after_validation(training.runner, {"loss": 2.5})  # step 0: the untrained model
    with training.runner.cleanup:
        training.step(2.4)  # the first step of a warm-up
        loop.has_updated = True
        for loss in (3.0, None, 4.0, 2.0, None):
            training.step(loss)
    assert training.checkpointer.saves == [(2, True, True), (5, True, True)]
    assert training.best == (5, 2.0)
    assert [line.strip() for line in lines] == [
        "saved step_2 (best validation loss so far; it was better before training)",
        "saved step_5 (best validation loss so far)",
    ]


def test_without_metric_no_checkpoint_is_the_best(tmp_path: Path, lines: list[str]) -> None:
    training = Training(CheckpointHook(interval=2, metric_for_best_model=None), tmp_path)
    with training.runner.cleanup:
        for loss in (3.0, 2.0):
            training.step(loss)
    assert training.checkpointer.saves == [(2, False, True)]


def test_failed_save_of_the_best_step_restores_the_previous_best(tmp_path: Path, lines: list[str]) -> None:
    training = Training(CheckpointHook(interval=99), tmp_path)
    training.checkpointer.failing = {2}
    with training.runner.cleanup:
        for loss in (3.0, 1.0, None):
            training.step(loss)
        assert training.best == (1, 3.0)
        training.step(2.0)
    assert [step for step, _, _ in training.checkpointer.saves] == [1, 2, 4]
    assert [line for line in lines if "disk full" in line and "step_2" in line]
    assert not any("more" in line for line in lines)


def test_failed_final_save_raises_checkpoint_error(tmp_path: Path, lines: list[str]) -> None:
    training = Training(CheckpointHook(), tmp_path, num_steps=1)
    training.checkpointer.failing = {1}
    with training.runner.cleanup:
        training.step()
        with pytest.raises(CheckpointError) as error:
            training.hook.after_train(training.runner)
    assert (error.value.key, error.value.got) == ("step_1", "disk full")
    assert [step for step, _, _ in training.checkpointer.saves] == [1, 1]


@pytest.mark.parametrize(("failing", "saved"), [(set(), True), ({1}, False)])
def test_sigterm_saves_the_optimizer_state_and_ends_the_run(
    failing: set[int], saved: bool, tmp_path: Path, lines: list[str]
) -> None:
    training = Training(CheckpointHook(interval=99, save_optimizer_state=False), tmp_path)
    training.checkpointer.failing = failing
    with training.runner.cleanup:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(RunInterrupted) as error:
            training.step()
    assert error.value.exit_code == 128 + signal.SIGTERM
    assert str(error.value).startswith("saved step_1" if saved else "failed to save step_1 (disk full)")
    assert training.checkpointer.saves == [(1, False, True)]


def test_sigusr1_saves_once_and_training_continues(tmp_path: Path, lines: list[str]) -> None:
    training = Training(CheckpointHook(interval=99, save_optimizer_state=False), tmp_path)
    with training.runner.cleanup:
        os.kill(os.getpid(), signal.SIGUSR1)
        training.step()
        training.step()
    assert training.checkpointer.saves == [(1, False, False)]


def test_stopped_run_saves_its_last_step_once(tmp_path: Path, lines: list[str]) -> None:
    training = Training(CheckpointHook(interval=99), tmp_path)
    with training.runner.cleanup:
        training.runner.train_loop.stop_reason = "early stopping"
        training.step()
        training.hook.after_train(training.runner)
    assert training.saved_folders == ["step_1"]
    assert len(training.checkpointer.saves) == 1


@pytest.mark.parametrize(
    ("losses", "problem"),
    [
        ((2.0, 3.0), "the best checkpoint, step_1, is corrupt (the folder does not exist)"),
        ((math.nan, math.nan), "no checkpoint has a finite loss"),
    ],
)
def test_best_checkpoint_that_cannot_be_loaded_is_a_warning(
    tmp_path: Path, lines: list[str], losses: tuple[float, ...], problem: str
) -> None:
    training = Training(CheckpointHook(load_best_model_at_end=True), tmp_path, num_steps=2)
    with training.runner.cleanup:
        for loss in losses:
            training.step(loss)
        training.hook.after_train(training.runner)
        training.hook.after_run(training.runner)
    [line] = [line for line in lines if "load_best_model_at_end" in line]
    assert line.startswith("warning: ")
    assert problem in line
    assert line.endswith("final/ has the weights of step_2")


def test_suggest_less_memory_omits_the_optimizer_state() -> None:
    line = CheckpointHook().suggest_less_memory("checkpoint")
    assert str(line).startswith("save_optimizer_state=False ")
    assert CheckpointHook(save_optimizer_state=False).suggest_less_memory("checkpoint") is None
    assert CheckpointHook().suggest_less_memory("forward") is None


def test_interval_of_zero_raises_config_error() -> None:
    with pytest.raises(ConfigError) as error:
        CheckpointHook(interval=0)
    assert (error.value.key, error.value.got) == ("interval", 0)
