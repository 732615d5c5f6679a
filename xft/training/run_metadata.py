"""Files that describe a run: config, data report, environment and report."""

import json
import shutil
from collections.abc import Mapping
from datetime import datetime
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
from xft.utils import console, paths, system
from xft.version import __version__


def write_records(
    work_dir: Path, config: Mapping[str, Any], prepared: PreparedData, plan: TrainingPlan
) -> None:
    """Write config and data report, and remove final model and report of an earlier end of this run."""
    shutil.rmtree(work_dir / "final", ignore_errors=True)
    (work_dir / REPORT).unlink(missing_ok=True)
    portable = {key: value for key, value in config.items() if key != "work_dir"}
    dump_config(portable, work_dir / "config.py", root=RunConfig)
    report = prepared.report.to_dict()
    capacity = plan.batches.pack_length
    if capacity is not None:
        report["packing"] = packing_stats(plan.batches.lengths, plan.batches.epoch_rows(0), capacity)
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    paths.write_text(work_dir / "data_report.json", text)
    if prepared.report.quarantine_files:
        with open(work_dir / "quarantine.jsonl", "wb", opener=paths.no_follow) as out:
            for file in prepared.report.quarantine_files:
                out.write(file.read_bytes())


def write_environment(work_dir: Path, plan: TrainingPlan, strategy: Strategy) -> None:
    """Write ``environment.json``: batch sizes, machine, and versions of libraries."""
    batches, group = plan.batches, strategy.sequence
    total, _ = system.host_memory()
    values = {
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
            "started_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        },
        "versions": {"xft": __version__, **system.versions()},
    }
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    paths.write_text(work_dir / ENVIRONMENT, text)


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
