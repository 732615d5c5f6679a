"""What stands between a command and its first step, and need not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from helpers.models import load_model
from helpers.tiny import ROOT, save_tiny, write_config, write_rows

from xft.models import LoRA, is_identity_adapter

UNUSED = (
    "bitsandbytes",
    "torch._inductor.compile_fx",
    "deepspeed",
    "datasets",
    "pandas",
    "tensorboard",
    "matplotlib",
    "torch.distributed.optim",
    "wandb",
)
SCRIPT = """
import json, sys
from xft.cli import main
try:
    code = main(sys.argv[2:])
except SystemExit as end:
    code = end.code
print(json.dumps([code, [each for each in sys.argv[1].split() if each in sys.modules]]))
"""


def _imported(names: tuple[str, ...], *arguments: str, expected_code: int = 0) -> list[str]:
    """Which of these modules a process has imported when a command is through."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, " ".join(names), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    code, found = json.loads(done.stdout.splitlines()[-1])
    assert code == expected_code, done.stdout + done.stderr
    return list(found)


def test_config_that_is_missing_is_named_before_libraries_are_imported() -> None:
    """The import of these libraries takes longer than half a second."""
    for command in ("check", "train", "inspect-data"):
        assert _imported(("torch", "mmengine", "numpy"), command, "missing.py", expected_code=2) == []


def test_a_lora_run_imports_no_more_than_it_uses(tmp_path: Path, byte_tokenizer: Any) -> None:
    """From the command to the verified end, with an adapter that peft makes, saves, loads and merges; those
    libraries are installed, and others import them wherever they are."""
    model = save_tiny(tmp_path / "tiny", "llama", byte_tokenizer)
    extra = 'hooks.update(verify=dict(type="verify", mode="in_process"))\ntemplate = "chatml"\ntraining.update(max_steps=2)\n'
    config = write_config(tmp_path / "c.py", model, write_rows(tmp_path / "rows.jsonl", 8), extra)
    run = tmp_path / "run"
    assert _imported(UNUSED, "train", str(config), "--work-dir", str(run)) == []
    assert (run / "final" / "adapter_model.safetensors").is_file()


def test_a_new_adapter_adds_nothing_and_one_that_is_more_than_zero_does(
    tmp_path: Path, byte_tokenizer: Any
) -> None:
    """Where it adds nothing, the model gives the same bits without it, in bf16 as it is asked."""
    save_tiny(tmp_path, "llama", byte_tokenizer)

    def load(adapter: LoRA | None) -> Any:
        return load_model(tmp_path, adapter, dtype="bfloat16").eval()

    model, ids = load(LoRA(r=4, lora_dropout=0.1, modules_to_save=["lm_head"])), torch.arange(5, 25)[None]
    assert is_identity_adapter(model)
    with torch.no_grad():
        on = model(input_ids=ids).logits
        with model.disable_adapter():
            assert torch.equal(on, model(input_ids=ids).logits)
        next(each for name, each in model.named_parameters() if "lora_B" in name)[0, 0] = 1e-6
    assert not is_identity_adapter(model)
    for other in (None, LoRA(init_lora_weights="pissa"), LoRA(use_dora=True)):
        assert not is_identity_adapter(load(other))
