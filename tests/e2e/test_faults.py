"""Disks that fill up, files that decay, runs that end early: no run is lost, and none lies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import ROOT, records, write_config
from safetensors.torch import load_file

from xft.checkpoint import writer
from xft.cli import main

TIMES = ("seconds", "per_second", "peak_memory_bytes")
OPTIONS = [
    "hooks.checkpoint.interval=3",
    "hooks.checkpoint.save_total_limit=9",
    "hooks.checkpoint.metric_for_best_model=none",
]
HOOKS = """
import os
from pathlib import Path
from mmengine.hooks import Hook

class FillDisk(Hook):
    '''Leaves no byte free from one step to another.'''
    priority = 'HIGHEST'
    def __init__(self, since, until):
        self.since, self.until = since, until
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        ballast = Path(runner.work_dir).parent / 'ballast'
        if runner.iter == self.until:
            ballast.unlink(missing_ok=True)
        elif runner.iter >= self.since and runner.iter < self.until:
            with ballast.open('ab', buffering=0) as out:
                for size in (1 << 16, 1 << 12, 1):
                    try:
                        while True:
                            out.write(bytes(size))
                    except OSError:
                        pass

class Watch(Hook):
    '''Notes when the moments of a save come.'''
    priority = 'LOWEST'
    seen = []
    def before_save(self, runner, step):
        self.seen.append(('before', runner.iter, step))
    def after_save(self, runner, folder):
        assert (folder / 'manifest.json').is_file()
        self.seen.append(('after', runner.iter, folder.name))
"""


def figures(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in each.items() if not key.endswith(TIMES)} for each in records(run)]


def train(config: Path, run: Path, *arguments: str, options: tuple[str, ...] = ()) -> int:
    return main(
        ["train", str(config), "--work-dir", str(run), *arguments, "--cfg-options", *OPTIONS, *options]
    )


def assert_same(run: Path, other: Path) -> None:
    assert figures(run) == figures(other)
    assert (run / "generations.jsonl").read_text() == (other / "generations.jsonl").read_text()
    name = Path("final") / "adapter_model.safetensors"
    assert (run / name).read_bytes() == (other / name).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A finished run with all its checkpoints, beside its config ``tiny.py``."""
    from helpers.tiny import write_rows

    folder = tmp_path_factory.mktemp("whole")
    rows = write_rows(folder / "rows.jsonl", 24)
    config = write_config(folder / "tiny.py", tiny_model, rows, "adapter.update(lora_dropout=0.2)\n")
    assert train(config, folder / "run") == 0
    return folder / "run"


def test_resume_skips_corrupt_checkpoints_and_ends_as_the_uninterrupted_run(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two newest checkpoints decay; the end of the run is missing."""
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    shutil.rmtree(run / "final")
    newest = run / "checkpoints" / "step_12" / "training_state.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(content)
    (run / "checkpoints" / "step_9" / "adapter_model.safetensors").write_bytes(b"")
    capsys.readouterr()
    assert train(whole.parent / "tiny.py", run, "--resume") == 0
    printed = capsys.readouterr().out
    assert (
        "skipping corrupt checkpoint step_12: training_state.safetensors has a different checksum"
        in printed
    )
    assert "skipping corrupt checkpoint step_9: adapter_model.safetensors has 0 bytes" in printed
    assert_same(run, whole)
    assert os.readlink(run / "checkpoints" / "last") == "step_12"
    assert sorted(each.name for each in (run / "superseded").iterdir()) == ["step_12", "step_9"]


def test_an_older_checkpoint_that_is_named_leaves_the_newer_ones_behind(
    whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    assert train(whole.parent / "tiny.py", run, "--resume", str(run / "checkpoints" / "step_3")) == 0
    assert_same(run, whole)
    assert sorted(each.name for each in (run / "superseded").iterdir()) == ["step_12", "step_6", "step_9"]


def test_a_run_that_was_killed_before_its_end_is_ended_without_a_further_step(
    whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    shutil.rmtree(run / "final")
    assert train(whole.parent / "tiny.py", run, "--resume") == 0
    assert_same(run, whole)


def test_another_run_is_not_trained_over(
    whole: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished_run / "metrics.jsonl").read_text()
    assert train(whole.parent / "tiny.py", finished_run, "--resume", str(whole)) == 2
    assert "holds another run" in capsys.readouterr().err
    assert (finished_run / "metrics.jsonl").read_text() == before


def test_auto_starts_goes_on_and_says_when_it_is_done(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)  # killed before its first checkpoint
    (run / "metrics.jsonl").write_text('{"step": 0, "split": "val", "loss": 1}\n')
    assert train(tiny_run, run, "--resume", "auto") == 0
    assert "starting from scratch" in capsys.readouterr().out
    assert [each["step"] for each in records(run, "train")] == list(range(1, 13))
    assert len(records(run, "val")) == len({each["step"] for each in records(run, "val")})
    assert train(tiny_run, run, "--resume", "auto") == 0
    assert "the run is at step 12 of 12 and done" in capsys.readouterr().out
    assert train(tiny_run, run, "--resume") == 2
    assert "done" in capsys.readouterr().err


def test_an_early_stop_is_not_followed_by_another_step(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    patience = ("hooks.early_stopping.type=early_stopping", "hooks.early_stopping.min_delta=100.0")
    options = (*patience, "hooks.early_stopping.patience=2", "hooks.validation.interval=1")
    assert train(tiny_run, run, options=options) == 0
    before = figures(run)
    assert before[-1]["step"] == 2
    assert train(tiny_run, run, "--resume", options=options) == 2
    assert "it ended at step 2 of 12, as validation loss has not fallen" in capsys.readouterr().err
    for end in ("report.html", "final"):  # as if it had been killed before either was written
        shutil.rmtree(run / end) if end == "final" else (run / end).unlink()
        assert train(tiny_run, run, "--resume", options=options) == 0
        assert figures(run) == before
        assert (run / "report.html").is_file()
    more = (*patience, "hooks.early_stopping.patience=4", "hooks.validation.interval=1")
    assert train(tiny_run, run, "--resume", options=more) == 0
    assert records(run, "train")[-1]["step"] == 4


def test_too_little_room_is_said_before_the_run_and_leaves_nothing(
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    assert train(tiny_run, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "save_total_limit=9 needs disk space for 11" in error
    assert "100.0 kB" in error
    assert not (tmp_path / "run").exists()


def test_a_last_checkpoint_that_cannot_be_saved_fails_the_run(
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage, write = shutil.disk_usage, writer.write_checkpoint

    def fail_from_nine_on(request: Any, *rest: Any) -> Path:
        if request.step >= 9:
            raise OSError(28, "No space left on device")
        return write(request, *rest)

    monkeypatch.setattr(writer, "write_checkpoint", fail_from_nine_on)
    assert train(tiny_run, tmp_path / "run") == 5
    streams = capsys.readouterr()
    assert "warning: failed to save step_9 ([Errno 28] No space left on device); training" in streams.out
    assert "failed to save the final checkpoint step_12" in streams.err
    assert len(records(tmp_path / "run", "train")) == 12
    assert not (tmp_path / "run" / "final").exists()
    assert os.readlink(tmp_path / "run" / "checkpoints" / "last") == "step_6"
    monkeypatch.setattr(writer, "write_checkpoint", write)
    assert usage(tmp_path).free > 0
    assert train(tiny_run, tmp_path / "run", "--resume") == 0
    assert [each["step"] for each in records(tmp_path / "run", "train")] == list(range(1, 13))


@pytest.mark.slow
def test_training_goes_on_through_a_full_disk(whole: Path, tmp_path: Path) -> None:
    """A small file system of its own is filled to the last byte from step 4 on, and emptied at 8. Saves are
    waited for, so that the one of step 3 is done before the disk is full."""
    room = tmp_path / "room"
    room.mkdir()
    (tmp_path / "filling.py").write_text(HOOKS)
    command = f"""
        mount -t tmpfs -o size=64m none {room} || exit 77
        cd {tmp_path}
        {sys.executable} {ROOT}/tools/train.py {whole.parent}/tiny.py --work-dir {room}/run --cfg-options \
            {" ".join(OPTIONS)} hooks.checkpoint.async_save=False hooks.fill.type=filling.FillDisk hooks.fill.since=4 hooks.fill.until=8
        code=$?
        cp -a {room}/run {tmp_path}/run
        exit $code
    """
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command]
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed: no file system of its own for this test")
    done = subprocess.run(inside, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no file system of its own can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed to save step_6" in done.stdout
    run = tmp_path / "run"
    assert figures(run) == figures(whole)
    steps = {each.name for each in (run / "checkpoints").iterdir()}
    assert {"step_3", "step_9", "step_12"} <= steps
    assert "step_6" not in steps


def test_a_checkpoint_without_the_optimizer_is_smaller_and_not_resumed_from(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train(tiny_run, run, options=("hooks.checkpoint.save_optimizer_state=False",)) == 0
    state = load_file(run / "checkpoints" / "step_9" / "training_state.safetensors")
    assert not any("optimizer" in name for name in state)
    assert train(tiny_run, run, "--resume", str(run / "checkpoints" / "step_9")) == 5
    assert "has no optimizer state" in capsys.readouterr().err


@pytest.mark.parametrize("wait", [True, False])
def test_hooks_are_called_before_the_copy_and_after_the_checkpoint_is_there(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: bool
) -> None:
    (tmp_path / f"watching_{wait}.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = (f"hooks.watch.type=watching_{wait}.Watch", f"hooks.checkpoint.async_save={not wait}")
    assert train(tiny_run, tmp_path / "run", options=options) == 0
    seen = sys.modules[f"watching_{wait}"].Watch.seen
    assert [each for each in seen if each[0] == "before"] == [
        ("before", step, step) for step in (3, 6, 9, 12)
    ]
    after = {name: step for kind, step, name in seen if kind == "after"}
    assert list(after) == ["step_3", "step_6", "step_9", "step_12"]
    for name, step in after.items():
        saved = int(name.removeprefix("step_"))
        # At the same step where training waits; otherwise at a later one, but before the next save.
        assert step == saved if wait else saved <= step <= min(saved + 3, 12)


def test_secrets_of_the_environment_are_in_no_file_of_a_run(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY")
    for name in names:
        monkeypatch.setenv(name, f"secret-of-{name}-0123456789abcdef")
    options = ("loggers.tensorboard.type=tensorboard", "training.max_steps=3")
    assert train(tiny_run, tmp_path / "run", options=options) == 0
    files = [each for each in (tmp_path / "run").rglob("*") if each.is_file()]
    assert len(files) > 10
    assert not [each for each in files if b"secret-of-" in each.read_bytes()]
    streams = capsys.readouterr()
    assert "secret-of-" not in streams.out + streams.err
