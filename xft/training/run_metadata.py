"""Files that describe a run: config, data report, environment and report."""

import json
import shutil
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from xft.config import dump_config
from xft.data import PreparedData
from xft.data.batching.packing import packing_stats
from xft.errors import ConfigError
from xft.reporting import REPORT, write_report
from xft.reporting.run_folder import ENVIRONMENT
from xft.run_config.config import RunConfig
from xft.run_config.plan import TrainingPlan
from xft.strategies import Strategy
from xft.training.run_clock import RunClock, now
from xft.utils import console, paths, system
from xft.utils.command_line import typed_command
from xft.version import __version__


def write_records(
    work_dir: Path,
    config: Mapping[str, Any],
    prepared: PreparedData,
    plan: TrainingPlan,
    resolved: Mapping[str, object],
) -> None:
    """Write config and data report, and remove final model and report of an earlier end of this run.

    Args:
        work_dir: the run folder.
        config: config of the run; its file begins with ``resolved``, as comments.
        prepared: data of the run.
        plan: its batches.
        resolved: dotted key to the value that the run has chosen for it.
    """
    shutil.rmtree(work_dir / "final", ignore_errors=True)
    (work_dir / REPORT).unlink(missing_ok=True)
    portable = {key: value for key, value in config.items() if key != "work_dir"}
    chosen = "".join(f"# {key} = {value!r}\n" for key, value in resolved.items())
    text = "# Values that are not in this config, or automatic, as the run has resolved them:\n" + chosen
    paths.write_text(work_dir / "config.py", f"{text}\n{dump_config(portable, root=RunConfig)}")
    report = prepared.report.to_dict()
    capacity = plan.batches.pack_length
    if capacity is not None:
        report["packing"] = packing_stats(plan.batches.lengths, plan.batches.epoch_sequences(0), capacity)
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    paths.write_text(work_dir / "data_report.json", text)
    if prepared.report.quarantine_files:
        with open(work_dir / "quarantine.jsonl", "wb", opener=paths.no_follow) as out:
            for file in prepared.report.quarantine_files:
                out.write(file.read_bytes())


def write_environment(
    work_dir: Path, plan: TrainingPlan, strategy: Strategy, prepared: PreparedData, clock: RunClock
) -> None:
    """Write ``environment.json``: command, commit, hash of the data, batch sizes, machine, versions of libraries."""
    batches, group = plan.batches, strategy.sequence
    total, _ = system.host_memory()
    rows = f"{prepared.train.fingerprint()} {prepared.val.fingerprint()}"
    values = {
        "run": {
            "command": typed_command(),
            "git_commit": system.git_commit(),
            "data_hash": blake2b(rows.encode(), digest_size=16).hexdigest(),
            "started_at": clock.started_at,
        },
        "plan": {
            "steps": plan.num_steps,
            "steps_per_epoch": batches.steps_per_epoch,
            "micro_batch_size": batches.micro_batch_size,
            "gradient_accumulation_steps": batches.gradient_accumulation_steps,
            "ranks": strategy.world_size,
            **({} if group is None else {"sequence_parallel_size": group.size}),
            "pack_length": batches.pack_length,
            "seed": batches.seed,
        },
        "machine": {
            "device": _device(strategy.device),
            "processor": system.cpu_name(),
            "memory": console.format_bytes(total),
        },
        "versions": {"xft": __version__, **system.versions()},
    }
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    paths.write_text(work_dir / ENVIRONMENT, text)


def write_end(work_dir: Path, final_step: int, clock: RunClock) -> None:
    """Add the end of the run to ``environment.json``.

    Args:
        work_dir: the run folder.
        final_step: step of the weights in ``final/``.
        clock: duration of the run, without the pauses before it was resumed.
    """
    file = work_dir / ENVIRONMENT
    values = json.loads(file.read_text(encoding="utf-8"))
    values["run"] |= {"ended_at": now(), "seconds": round(clock.seconds), "final_step": final_step}
    paths.write_text(file, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _device(device: torch.device) -> str:
    if device.type != "cuda":
        return str(device)
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name}, {console.format_bytes(properties.total_memory)} (CUDA {torch.version.cuda})"


def write_run_report(work_dir: Path) -> Path | None:
    """Write ``report.html`` and return its path; if that fails, log a warning and return ``None``."""
    try:
        return write_report(work_dir)
    except ConfigError as error:
        console.info(f"warning: no report: {error}")
        return None
