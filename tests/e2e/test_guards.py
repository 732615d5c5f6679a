"""Trainings that go wrong: what is said, what is left out, what ends."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.components import BLOWING
from helpers.forked import run_on_ranks
from helpers.tiny import ROOT, records, write_config, write_rows

from xft.cli import main

MARKED = 7
EXTRA = """
data.update(packing=False, val_split=2)
training.update(epochs=1)
hooks.update(training_health=dict(type='training_health'), watch=dict(type='blowing.Watch'))
"""


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows of which one, in line 7, holds a word that no other has, and an objective that fails at it."""
    rows = write_rows(tmp_path / "rows.jsonl", 24)
    lines = rows.read_text().splitlines()
    marked = json.loads(lines[MARKED - 1])
    lines[MARKED - 1] = json.dumps({**marked, "instruction": "zebra"})
    rows.write_text("\n".join(lines) + "\n")
    token = next(
        each
        for each in tiny_tokenizer("zebra")["input_ids"]
        if not any(each in tiny_tokenizer(other)["input_ids"] for other in lines if other != lines[6])
    )
    (tmp_path / "blowing.py").write_text(BLOWING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "blowing", raising=False)
    objective = f"objective = dict(type='blowing.blow', token={token}, kind='loss')\n"
    return write_config(tmp_path / "c.py", tiny_model, rows, EXTRA + objective)


def _train(config: Path, *options: str, run: str = "run") -> int:
    arguments = ["train", str(config), "--work-dir", str(config.parent / run)]
    return main([*arguments, *(["--cfg-options", *options] if options else [])])


@pytest.mark.parametrize(
    ("kind", "message", "named"),
    [("loss", "the loss is nan", 1), ("gradient", "grad_norm is", 2)],
)
def test_a_step_that_is_not_finite_ends_the_run_and_names_its_rows(
    config: Path, capsys: pytest.CaptureFixture[str], kind: str, message: str, named: int
) -> None:
    """A loss is of a micro-batch, which is named; a gradient is of the whole window of two."""
    assert _train(config, f"objective.kind={kind}") == 6
    error = capsys.readouterr().err
    assert message in error
    assert f"rows.jsonl:{MARKED}" in error
    assert error.count("rows.jsonl:") == named
    assert error.count("\n") == 1


def test_rows_are_named_without_the_hook_too(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train(config, "hooks.training_health=none") == 6
    assert f"(rows: {config.parent / 'rows.jsonl'}:{MARKED})" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_step_can_be_left_out_and_the_weights_stay_what_they_were(
    config: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    assert _train(config, "hooks.training_health.on_nonfinite=skip", f"objective.kind={kind}") == 0
    out = capsys.readouterr().out
    assert "warning: skipped step" in out
    assert f"rows.jsonl:{MARKED}" in out
    assert "warning: 1 step of this run skipped" in out
    steps = records(config.parent / "run", "train")
    left_out = [each["step"] for each in steps if each.get("skipped")]
    assert len(left_out) == 1
    assert len(steps) == 11
    assert steps[left_out[0] - 1]["grad_norm"] is None  # not a number has no place in JSON
    import blowing  # type: ignore[import-not-found]

    for step, (before, after) in enumerate(zip(blowing.weights, blowing.weights[1:], strict=False), 2):
        same = all(torch.equal(before[name], after[name]) for name in after)
        assert same == (step == left_out[0])
        assert all(torch.isfinite(each).all() for each in after.values())


def test_too_many_steps_left_out_in_a_row_end_the_run(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "hooks.training_health.on_nonfinite=skip",
        "hooks.training_health.max_skipped_steps=2",
        "objective.token=none",
    ]
    assert _train(config, *options) == 6
    captured = capsys.readouterr()
    assert captured.out.count("warning: skipped step") == 2
    assert "step 3: the loss is nan" in captured.err


def test_a_spike_is_said_with_its_rows(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train(config, "objective.kind=50", "training.epochs=2") == 0
    spikes = [
        each for each in capsys.readouterr().out.splitlines() if "warning: loss spike at step" in each
    ]
    assert spikes
    assert all(f"rows.jsonl:{MARKED}" in each for each in spikes)


def test_what_can_never_learn_ends_early(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train(config, "objective.kind=0", "objective.token=none") == 6
    captured = capsys.readouterr()
    assert "warning: all gradients of step 1 are zero" in captured.out
    assert "the model cannot learn" in captured.err
    run = config.parent / "run"
    # A run that ends in its first step has written no metrics.
    assert not (run / "metrics.jsonl").exists() or len(records(run, "train")) <= 3


def test_a_run_that_learnt_nothing_does_not_say_that_it_succeeded(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(config, "optimizer.lr=0", "objective.token=-1") == 5
    captured = capsys.readouterr()
    assert "warning: learning rate is 0 for the first 10 steps" in captured.out
    assert "zeros in all 14 layers" in captured.err
    assert "reloaded and compared" not in captured.out
    assert not (config.parent / "run" / "final").exists()


def test_two_ranks_leave_out_the_same_step(config: Path) -> None:
    """The row is on one rank only; both must agree, or they wait for each other for ever."""
    extra = "hooks['training_health'].update(on_nonfinite='skip')\nhooks['validation'] = None\n"
    config.write_text(config.read_text() + extra)
    train = [str(config), "--launcher", "pytorch", "--work-dir", str(config.parent / "run")]
    done = run_on_ranks(2, ROOT / "tools" / "train.py", *train, paths=(config.parent,), timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [each for each in done.stdout.splitlines() if "warning: skipped step" in each]
    assert len(said) == 1
    assert said[0].count("rows.jsonl:") == 1
    assert f"rows.jsonl:{MARKED}" in said[0]


@pytest.mark.parametrize("validates", [True, False])
def test_last_step_that_diverges_is_not_saved(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, validates: bool
) -> None:
    """No later step finds a loss that is not finite."""
    from xft.strategies import SingleDevice

    step = SingleDevice.step

    def diverge(self: SingleDevice, max_norm: float | None) -> float:
        norm = step(self, max_norm)
        if self.lr_scheduler.last_epoch == 4:
            param = next(param for param in self.model.parameters() if param.requires_grad)
            param.data.fill_(float("inf"))
        return norm

    monkeypatch.setattr(SingleDevice, "step", diverge)
    options = ["objective=sft", "training.max_steps=4", "hooks.checkpoint.interval=3"]
    assert _train(config, *options, *([] if validates else ["data.val_split=none"])) == 6
    error = capsys.readouterr().err
    assert ("the validation loss at step 4 is nan" if validates else "trained tensors") in error
    assert error.count("\n") == 1
    run = config.parent / "run"
    assert not (run / "final").exists()
    assert max(path.name for path in (run / "checkpoints").glob("step_*")) == "step_3"
