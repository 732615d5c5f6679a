"""Ways of tuning by one key each, through a whole run: broken off, resumed, saved, verified, merged."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.components import HOOK
from helpers.tiny import comparable_records, records, write_config, write_rows
from helpers.tolerances import TINY_MODEL_FP32
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from xft.cli import INTERRUPTED, main
from xft.export import convert
from xft.models import load_saved_model
from xft.training.evaluate import EvalOptions, evaluate_run

METHODS = {
    "lora-plus-with-noise": """
model.update(neftune_alpha=5.0, gradient_checkpointing=True)
adapter.update(loraplus_lr_ratio=8, lora_dropout=0.1)
optimizer.update(lr=5e-3, weight_decay=0.1)
lr_scheduler = dict(type="cosine", warmup_steps=3)
""",
    "pissa": 'adapter.update(init_lora_weights="pissa_niter_16", loraplus_lr_ratio=2)\noptimizer.update(lr=1e-2)\n',
    "dora": "adapter.update(use_dora=True)\n",
    "rslora-by-muon": """
adapter.update(use_rslora=True)
optimizer = dict(type="muon", lr=1e-2, weight_decay=0.1)
""",
    "schedule-free": """
optimizer = dict(type="schedule_free_adamw", lr=1e-2, weight_decay=0.1)
lr_scheduler = dict(type="constant", warmup_steps=3)
""",
}
SAVES = "hooks['checkpoint'].update(interval=3, save_total_limit=9)\n"
BREAKS = "hooks.update(break_off=dict(type='breaking.BreakOff', at=7))\n"


@pytest.fixture
def train(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Trains the tiny model in a way of these; gives the run folder."""
    (tmp_path / "breaking.py").write_text(HOOK)
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = write_rows(tmp_path / "rows.jsonl", 24)

    def run(method: str, name: str, extra: str = "", *options: str, code: int = 0) -> Path:
        config = write_config(tmp_path / f"{name}.py", tiny_model, rows, METHODS[method] + SAVES + extra)
        folder = tmp_path / "runs" / name
        assert main(["train", str(config), "--work-dir", str(folder), *options]) == code
        return folder

    return run


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_resumed_is_bit_equal_and_what_is_saved_is_what_was_trained(
    train: Callable[..., Path], method: str
) -> None:
    """Between step 6, which is saved, and step 7, in which the run breaks off, it is validated and asked."""
    whole = train(method, "whole", 'hooks.update(verify=dict(type="verify", mode="in_process"))\n')
    broken = train(method, "broken", BREAKS, code=INTERRUPTED)
    train(method, "broken", "", "--resume")
    assert comparable_records(broken) == comparable_records(whole)
    one, two = (load_file(each / "final" / "adapter_model.safetensors") for each in (whole, broken))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    losses = [each["loss"] for each in records(whole, "train")]
    assert losses[-1] < losses[0] - 0.1
    assert (
        "reloaded model matches the live model (logits are identical" in (whole / "train.log").read_text()
    )
    # What was validated last is what another process finds in the folder.
    found = evaluate_run(EvalOptions(str(whole)))["validation"]
    assert found["loss"] == pytest.approx(records(whole, "val")[-1]["loss"], rel=TINY_MODEL_FP32)


def test_pissa_is_served_from_the_original_base_and_merged_into_it(
    train: Callable[..., Path], tmp_path: Path
) -> None:
    run = train("pissa", "run", 'hooks.update(verify=dict(type="verify"), sample_generation=None)\n')
    log = re.sub(r"^\S+ \S+ ", "", (run / "train.log").read_text(), flags=re.MULTILINE)  # without times
    assert "reloaded and compared with the live model: logits are identical" in " ".join(log.split())
    config = json.loads((run / "final" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 16, True)
    convert(str(run), str(tmp_path / "out"), merged=True, subprocess=False)
    ids = torch.arange(40, 70)[None]
    with torch.no_grad():
        adapted = load_saved_model(str(run)).model(input_ids=ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(input_ids=ids).logits
    torch.testing.assert_close(merged, adapted, rtol=0, atol=1e-4)


def test_a_schedule_free_run_does_not_depend_on_when_it_is_looked_at(train: Callable[..., Path]) -> None:
    """Looking at it moves the weights to their average; what is trained must not see that."""
    often = train("schedule-free", "often", "hooks['validation'].update(interval=1)\n")
    never = train("schedule-free", "never", "hooks.update(validation=None, sample_generation=None)\n")

    def figures(run: Path) -> list[tuple[Any, ...]]:
        return [(each["loss"], each["grad_norm"]) for each in records(run, "train")]

    assert figures(often) == figures(never)
    assert all(math.isfinite(loss) for loss, _ in figures(never))
    last = [load_file(each / "final" / "adapter_model.safetensors") for each in (often, never)]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_a_schedule_that_falls_is_refused_before_a_folder_is_made(
    train: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("schedule-free", "falls", 'lr_scheduler = "cosine"\n', code=2)
    assert "averages weights instead of decaying the rate" in capsys.readouterr().err
    assert not (run / "config.py").exists()
