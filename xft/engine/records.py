"""What a run writes down of itself before its first step."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xft.config import dump_config
from xft.data import Prepared
from xft.data.packing import describe
from xft.engine.loggers import Logger
from xft.engine.plan import TrainingPlan
from xft.engine.recipe import Recipe
from xft.engine.workdir import log_to
from xft.models import NF4, LoadedModel, Note


def note_of(recipe: Recipe, loaded: LoadedModel) -> Note:
    """What a saved model says of its base."""
    model = recipe.model
    weights = str(loaded.base.dtype).removeprefix("torch.")
    bits = model.quantization.bits if model.quantization is not None else None
    where = Path(model.path).expanduser()
    base = str(where.absolute()) if where.is_dir() else model.path
    double = model.quantization.double if isinstance(model.quantization, NF4) else True
    return Note(base, weights, bits, double, model.attention)


def open_loggers(
    recipe: Recipe, config: Mapping[str, Any], work_dir: Path, resume_step: int
) -> list[Logger]:
    """Open ``train.log`` and the loggers of the config."""
    log_to(work_dir)
    return [
        make(work_dir=work_dir, config=config, resume_step=resume_step) for make in recipe.loggers.values()
    ]


def write_records(
    work_dir: Path, config: Mapping[str, Any], prepared: Prepared, plan: TrainingPlan
) -> None:
    """Write the config and the ledger, and take away what an earlier end of this run left."""
    shutil.rmtree(work_dir / "final", ignore_errors=True)
    dump_config({key: value for key, value in config.items() if key != "work_dir"}, work_dir / "config.py")
    report = prepared.ledger.to_dict()
    capacity = plan.batches.capacity
    if capacity is not None:
        report["packing"] = describe(plan.batches.lengths, plan.batches.rows(0), capacity)
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    (work_dir / "data_report.json").write_text(text, encoding="utf-8")
    if prepared.ledger.quarantine_files:
        with (work_dir / "quarantine.jsonl").open("wb") as out:
            for each in prepared.ledger.quarantine_files:
                out.write(each.read_bytes())
