"""What is saved is what was trained: reloaded in a fresh process, and a run that fails says so."""

import json
import subprocess
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from helpers.tiny import records
from safetensors.torch import load_file, save_file

from xft import export
from xft.cli import INTERRUPTED, main
from xft.export.verify import launcher
from xft.training import hooks

MEDDLING = """
import os, signal
from mmengine.hooks import Hook
from safetensors.torch import load_file, save_file

class Meddle(Hook):
    priority = 'HIGHEST'

    def __init__(self, factor=1.0):
        self.factor = factor

    def after_save(self, runner, folder):
        file = folder / 'adapter_model.safetensors'
        weights = {name: self.factor * each for name, each in load_file(file).items()}
        file.unlink()
        save_file(weights, file)

class Interrupt(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 9:
            raise KeyboardInterrupt
"""


@pytest.fixture
def config(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 12 steps with dropout that verifies what it saves; it saves after steps 2, 4 … 12."""
    (tmp_path / "meddling.py").write_text(MEDDLING)
    monkeypatch.syspath_prepend(str(tmp_path))
    extra = (
        "hooks.update(verify=dict(type='verify'))\n"
        "hooks['checkpoint'].update(interval=2, async_save=False)\n"
        "adapter.update(lora_dropout=0.2)\n"
    )
    tiny_run.write_text(tiny_run.read_text() + extra)
    return tiny_run


def _train(config: Path, *options: str, run: str = "run") -> int:
    arguments = ["train", str(config), "--work-dir", str(config.parent / run)]
    return main([*arguments, *(["--cfg-options", *options] if options else [])])


def test_the_first_checkpoint_and_the_end_are_reloaded_in_fresh_processes(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In new interpreters; the other tests verify in forks."""
    monkeypatch.setattr(launcher, "subprocess", subprocess)
    looked_at: list[str] = []
    start = launcher.VerifySubprocess.__init__

    def note(self: Any, wanted: Any) -> None:
        looked_at.append(wanted.path)
        start(self, wanted)

    monkeypatch.setattr(launcher.VerifySubprocess, "__init__", note)
    assert (
        _train(config, "hooks.checkpoint.save_total_limit=1") == 0
    )  # the first is gone before it is looked at
    out = capsys.readouterr().out
    assert "  verified step_2/: reloaded model matches the live model (" in out
    log = (config.parent / "run" / "train.log").read_text(encoding="utf-8")
    assert "adapter norms ‖ΔW‖ of 14 layers: min " in log
    assert "adapter norms" not in out
    assert "saved " in out
    assert [Path(each).name.partition("-")[0] for each in looked_at] == [".verify", ".final"]
    run = config.parent / "run"
    assert not list(run.glob(".verify-*"))
    assert not list(run.glob(".final-*"))
    norms = [float(each) for each in _line(log, "adapter norms").replace(",", "").split() if _number(each)]
    saved = load_file(run / "final" / "adapter_model.safetensors")
    expected = [
        float((2 * saved[name.replace("lora_A", "lora_B")] @ each).norm())  # alpha 8, r 4
        for name, each in saved.items()
        if "lora_A" in name
    ]
    assert norms[1:] == pytest.approx([min(expected), median(expected), max(expected)], 1e-2)


def _line(out: str, start: str) -> str:
    return next(start + line.partition(start)[2] for line in out.splitlines() if start in line)


def _number(text: str) -> bool:
    return text.strip(",").replace(".", "", 1).isdigit()


def test_verifying_changes_no_bit_of_the_training(config: Path) -> None:
    assert _train(config, "hooks.verify=none", run="without") == 0
    for how in ("in_process", "subprocess"):
        assert _train(config, f"hooks.verify.mode={how}", run=how) == 0
        for split in ("train", "val"):
            one, two = (records(config.parent / each, split) for each in ("without", how))
            assert [each["loss"] for each in one] == [each["loss"] for each in two]
        weights = [
            load_file(config.parent / each / "final" / "adapter_model.safetensors")
            for each in ("without", how)
        ]
        assert all(torch.equal(weights[1][name], each) for name, each in weights[0].items())


@pytest.mark.parametrize("how", ["subprocess", "in_process"])
def test_a_checkpoint_that_is_not_what_was_trained_ends_the_run(
    config: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    options = ["hooks.meddle.type=meddling.Meddle", "hooks.meddle.factor=0.9", f"hooks.verify.mode={how}"]
    assert _train(config, *options) == 5
    captured = capsys.readouterr()
    assert "error: step_2: ‖ΔW‖ of layer " in captured.err
    assert captured.err.count("\n") == 1
    assert "reloaded and compared" not in captured.out
    assert not (config.parent / "run" / "final").exists()
    assert not list((config.parent / "run").glob(".verify-*"))


def test_an_empty_adapter_is_not_a_result(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What DeepSpeed is known to leave (DeepSpeed #7900): a file of zeros with the right names."""
    from xft.training import runner

    save = runner.save_model

    def save_zeros(
        model: Any, tokenizer: Any, template: Any, note: Any, folder: Path, **options: Any
    ) -> None:
        save(model, tokenizer, template, note, folder, **options)
        file = folder / "adapter_model.safetensors"
        if "state_dict" not in options:
            save_file({name: torch.zeros_like(each) for name, each in load_file(file).items()}, file)

    monkeypatch.setattr(runner, "save_model", save_zeros)
    assert _train(config, "hooks.verify.mode=in_process") == 5
    captured = capsys.readouterr()
    assert "‖ΔW‖ of layer " in captured.err
    assert "reloaded and compared" not in captured.out
    assert not (config.parent / "run" / "final").exists()


def test_a_first_checkpoint_without_any_learning_is_said_and_no_error(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warm-up begins with a learning rate of zero."""
    config.write_text(config.read_text() + "lr_scheduler = dict(type='cosine', warmup_steps=6)\n")
    assert _train(config, "hooks.verify.mode=in_process", "hooks.checkpoint.interval=1") == 0
    assert "warning: the adapter in step_1 is still zero" in capsys.readouterr().out


def test_a_killed_verification_does_not_end_the_training(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine may have no room for a second model. The end of the run is another matter."""
    monkeypatch.setattr(launcher, "BOOTSTRAP", "import os; os.kill(os.getpid(), 9)")
    assert _train(config) == 5
    captured = capsys.readouterr()
    assert "was killed by signal 9; it needs memory for a second model; training continues" in captured.out
    assert "step 12/12" in captured.out
    assert "or set hooks.verify.mode='in_process'" in captured.err
    assert "reloaded and compared" not in captured.out


def test_a_run_that_is_broken_off_leaves_no_process(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    start = launcher.VerifySubprocess.__init__

    def note(self: Any, wanted: Any) -> None:
        start(self, wanted)
        started.append(self)

    monkeypatch.setattr(launcher.VerifySubprocess, "__init__", note)
    monkeypatch.setattr(launcher, "BOOTSTRAP", "import time; time.sleep(600)")
    assert _train(config, "hooks.interrupt.type=meddling.Interrupt") == INTERRUPTED
    (only,) = started
    assert only.is_done()
    assert not list((config.parent / "run").glob(".verify-*"))


def test_the_shipped_configs_guard_and_verify() -> None:
    from xft.config import load_config

    root = Path(export.__file__).parents[2]
    found = load_config(root / "configs" / "smollm2_lora.py")["hooks"]
    assert found["training_health"]["type"] == "training_health"
    assert found["verify"]["type"] == "verify"
    assert hooks.VerifyHook().mode == "subprocess"
    assert hooks.TrainingHealthHook().on_nonfinite == "stop"


def test_secrets_of_the_environment_are_written_nowhere(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secrets = {
        "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
        "HF_TOKEN": "hf_AbCdEfGhIjKlMnOpQrStUvWxYz",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIxK7MDENGxbPxRfiCYEXAMPLEKEY",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    assert _train(config, "hooks.verify.mode=in_process") == 0
    assert main(["convert", str(config.parent / "run"), str(tmp_path / "out"), "--merge"]) == 0
    captured = capsys.readouterr()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"train.log", "metrics.jsonl", "config.py", "training_state.json", "xft_metadata.json"} <= {
        path.name for path in written
    }
    texts = {path: path.read_bytes() for path in written}
    texts[Path("output")] = (captured.out + captured.err).encode()
    for value in secrets.values():
        assert not [path for path, text in texts.items() if value.encode() in text]


def test_the_end_is_compared_inside_where_the_config_says_so(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(launcher.VerifySubprocess, "__init__", refuse)
    assert _train(config, "hooks.verify.mode=in_process") == 0
    note = json.loads((config.parent / "run" / "final" / "xft_metadata.json").read_text())
    assert note["dtype"] == "float32"
