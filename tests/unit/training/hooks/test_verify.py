import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers.runner import FakeRunner
from mmengine.config import Config

from xft.errors import CheckpointError, ConfigError
from xft.export.verify import (
    ReferenceOutputs,
    VerificationSkipped,
    VerifyRequest,
    VerifyResult,
    VerifySubprocess,
)
from xft.training.hooks import VerifyHook
from xft.training.hooks import verify as module
from xft.training.hooks.verify import PREFIX, link_tree, trusts_remote_code, verify_final
from xft.utils import console

LOGITS = torch.tensor([[1.0, 2.0, 3.0]])
REFERENCE = ReferenceOutputs(["ab"], [[1, 2]], None, {"layer": 1.0}, LOGITS)
SKIPPED = VerificationSkipped("the process was killed")


def _result(factor: float = 1.0, norm: float = 1.0) -> VerifyResult:
    return VerifyResult(["ab"], [[1, 2]], [], {"layer": norm}, False, factor * LOGITS)


class FakeSubprocess(VerifySubprocess):
    """A process that has finished with a given outcome."""

    outcome: VerifyResult | VerificationSkipped = _result()

    def __init__(self, request: VerifyRequest) -> None:
        self.path = request.path

    def is_done(self) -> bool:
        return True

    def result(self, timeout: float) -> VerifyResult:
        if isinstance(self.outcome, VerificationSkipped):
            raise self.outcome
        return self.outcome

    def close(self) -> None:
        """Nothing runs."""


@dataclass
class Training:
    """A run with the hook, whose checkpoint of step 1 is on the disk."""

    hook: VerifyHook
    runner: FakeRunner
    checkpoint: Path
    lines: list[str]

    def save(self) -> None:
        self.runner.train_loop.step = 1
        self.hook.before_save(self.runner, 1)
        self.hook.after_save(self.runner, self.checkpoint)

    @property
    def copies(self) -> list[Path]:
        return list(self.runner.run_dir.glob(f"{PREFIX}*"))


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Training]:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lambda line="": lines.append(line))
    monkeypatch.setattr(module, "expect_live", lambda runner: REFERENCE)
    monkeypatch.setattr(module, "VerifySubprocess", FakeSubprocess)
    monkeypatch.setattr(FakeSubprocess, "outcome", _result())
    checkpoint = tmp_path / "checkpoints" / "step_1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    (checkpoint / "training_state.json").write_text("{}")
    (tmp_path / f"{PREFIX}stale").mkdir()
    hook, runner = VerifyHook(), FakeRunner(work_dir=tmp_path)
    with runner.cleanup:
        hook.before_run(runner)
        yield Training(hook, runner, checkpoint, lines)


def test_first_checkpoint_is_verified_once(training: Training) -> None:
    assert training.copies == []  # the stale one is removed
    training.save()
    [copy] = training.copies
    assert [file.name for file in copy.iterdir()] == ["model.safetensors"]
    training.hook.after_train_iter(training.runner, 0, [], {})
    assert training.copies == []
    assert [line for line in training.lines if "verified step_1/" in line] == training.lines
    training.save()
    assert training.copies == []


def test_checkpoint_that_differs_ends_the_run(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSubprocess, "outcome", _result(factor=1.5))
    training.save()
    with pytest.raises(CheckpointError) as error:
        training.hook.after_run(training.runner)
    assert error.value.key == "step_1: logits of the saved model"
    assert training.copies == []


def test_killed_subprocess_is_a_warning(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSubprocess, "outcome", SKIPPED)
    training.save()
    training.hook.after_run(training.runner)
    assert [line for line in training.lines if "warning" in line and str(SKIPPED) in line] == training.lines
    training.save()
    assert training.copies == []


def test_zero_adapter_during_training_is_a_warning(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero = ReferenceOutputs(["ab"], [[1, 2]], None, {"layer": 0.0}, LOGITS)
    monkeypatch.setattr(module, "expect_live", lambda runner: zero)
    monkeypatch.setattr(FakeSubprocess, "outcome", _result(norm=0.0))
    training.save()
    training.hook.after_run(training.runner)
    assert ["warning" in line for line in training.lines] == [False, True]


def test_checkpoint_of_an_earlier_step_is_not_compared_with_later_weights(training: Training) -> None:
    """It was saved before the hook could compute a reference."""
    training.runner.train_loop.step = 2
    training.hook.after_save(training.runner, training.checkpoint)
    assert training.copies == []
    training.hook.after_run(training.runner)
    assert training.lines == []


def test_end_of_a_run_removes_the_copy_of_an_unfinished_verification(training: Training) -> None:
    training.save()
    assert len(training.copies) == 1
    training.runner.cleanup.close()
    assert training.copies == []


def test_other_ranks_do_not_verify(training: Training) -> None:
    training.runner.strategy.rank = 1
    training.hook.before_run(training.runner)
    training.save()
    assert (training.copies, training.lines) == ([], [])


def test_verify_final_that_is_skipped_is_an_error(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A final model that nothing has compared must not look verified."""

    def skip(*args: object, **options: object) -> None:
        raise SKIPPED

    monkeypatch.setattr(module, "verify_saved_model", skip)
    training.runner.tokenizer = None  # type: ignore[assignment]
    with pytest.raises(CheckpointError) as error:
        verify_final(training.runner, training.checkpoint, REFERENCE)
    assert error.value.key == "hooks.verify.mode"
    assert not isinstance(error.value, VerificationSkipped)


def test_link_tree_survives_the_checkpoint_and_copies_if_links_are_unsupported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "step_1"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "weights").write_bytes(b"abc")
    (folder / "training_state.safetensors").write_bytes(b"state")
    linked = link_tree(folder, tmp_path)

    def refuse(source: Path, target: Path) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    copied = link_tree(folder, tmp_path)
    (folder / "sub" / "weights").unlink()
    for copy in (linked, copied):
        files = [path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()]
        assert files == ["sub/weights"]
        assert (copy / "sub" / "weights").read_bytes() == b"abc"


@pytest.mark.parametrize(
    ("config", "trusted"),
    [({}, False), ({"model": {}}, False), ({"model": {"trust_remote_code": True}}, True)],
)
def test_trusts_remote_code_only_if_the_config_says_so(config: dict[str, object], trusted: bool) -> None:
    runner = FakeRunner()
    runner.cfg = Config(config)
    assert trusts_remote_code(runner) is trusted


def test_timeout_of_zero_raises_config_error() -> None:
    with pytest.raises(ConfigError) as error:
        VerifyHook(timeout_minutes=0)
    assert (error.value.key, error.value.got) == ("hooks.verify.timeout_minutes", 0)
