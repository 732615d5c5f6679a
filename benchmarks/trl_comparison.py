"""Parts of the benchmarks that compare xft with TRL: processes of both frameworks, and their steps.

Each run has its own process, so that the two share no threads and no memory. Both train the same LoRA.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from step_clock import CLOCKS

Figures = dict[str, Any]
SIDES = ("xft", "trl")
RANK, ALPHA = 16, 32


def run_side(script: str, side: str, run: Path, options: Mapping[str, object]) -> Figures:
    """Run one framework in its own process. ``options`` are those of the script; return what ``write_figures`` wrote."""
    run.mkdir()
    command = [sys.executable, script, "--part", side, "--folder", str(run)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(f"{side} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return dict(json.loads((run / "figures.json").read_text()))


def write_figures(run: Path, figures: Figures) -> None:
    """Write the figures of this process, with its peak memory in bytes."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (run / "figures.json").write_text(json.dumps({**figures, "memory": memory}))


def train_xft(run: Path, config: str) -> list[Figures]:
    """Run `xft train` with the text of a config. Return the lines of its metrics."""
    from xft.cli import main as xft

    (run / "config.py").write_text(config)
    if (code := xft(["train", str(run / "config.py"), "--work-dir", str(run / "run")])) != 0:
        sys.exit(code)
    return read_lines(run / "run" / "metrics.jsonl")


def read_lines(path: Path) -> list[Any]:
    """Return the values of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def trl_lora(target_modules: str) -> Any:
    """Return the LoRA of both sides, as TRL makes it from its own options."""
    trl: Any = import_module("trl")
    adapter = trl.ModelConfig(use_peft=True, lora_r=RANK, lora_alpha=ALPHA, lora_dropout=0.0)
    adapter.lora_target_modules = target_modules
    return trl.get_peft_config(adapter)


def trl_watch(
    clock: str, figures: Figures, on_log: Callable[[Mapping[str, Any]], None] = lambda logs: None
) -> Any:
    """Return a callback that adds the seconds of each step to ``figures`` and passes what TRL logs to ``on_log``.

    The batch of a step is built before it begins: it counts, as in xft.
    """
    from transformers import TrainerCallback

    read = CLOCKS[clock]

    class Watch(TrainerCallback):
        begun = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.begun = read()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            now = read()
            figures["seconds"].append(now - self.begun)
            self.begun = now

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            on_log(logs)

    return Watch()


def count_tokens(trainer: Any, figures: Figures) -> None:
    """Add the tokens of each training batch of TRL, without padding, to ``figures``."""
    collate = trainer.data_collator

    def counted(rows: Any) -> Any:
        batch = collate(rows)
        if trainer.model.training:
            figures["tokens"].append(int(batch["attention_mask"].sum()))
        return batch

    trainer.data_collator = counted
