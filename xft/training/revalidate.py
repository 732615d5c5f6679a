"""Validation of a saved model with the objective and batches of its run."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from xft.data import Collator
from xft.distributed import seed_everything
from xft.distributed.devices import autocast
from xft.evaluation import evaluate
from xft.evaluation.validation import validation_batches
from xft.models import LoadedModel, TrainingModel
from xft.models.reference import FrozenReference, ReferenceContext
from xft.objectives import Objective, ObjectiveWithReference, ReferenceBasedObjective, as_objective
from xft.run_config.config import RunConfig
from xft.templates import BoundTemplate
from xft.training.hooks.validation import ValidationHook
from xft.types import Batch
from xft.utils import console


@dataclass
class SingleProcessContext:
    """Implement the rank context of objectives for one process.

    Attributes:
        device: device of the model.
        product: dtype of matrix products; ``None`` uses that of the weights.
    """

    device: torch.device
    product: torch.dtype | None = None
    data_rank: int = 0
    data_world_size: int = 1
    params_are_sharded: bool = False

    def to_device(self, batch: Batch) -> Batch:
        """Move the batch to the device of the model."""
        return batch.to(self.device)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute matrix products in the dtype of the run."""
        with autocast(self.device, self.product):
            yield

    def gather(self, value: object) -> list[Any]:
        """Return the value of the one process."""
        return [value]


def rerun_validation(
    run_config: RunConfig, loaded: LoadedModel, template: BoundTemplate | None, device: torch.device
) -> dict[str, float]:
    """Evaluate a saved model on the validation split of its run, with the same objective, batches and reference.

    Returns:
        The finite metrics (see :func:`xft.evaluation.evaluate`); empty if the run had no validation split.
    """
    run_config.data.check_sources()
    prepared = run_config.data.prepare(loaded.tokenizer, template, loaded.processor)
    if not prepared.val:
        console.info("validation: the run had no validation split")
        return {}
    ranks = SingleProcessContext(device, run_config.strategy.autocast_dtype)
    hook = next(
        (hook for hook in run_config.hooks.values() if isinstance(hook, ValidationHook)), ValidationHook()
    )
    collator = Collator.for_model(
        loaded.tokenizer, loaded.supports_packing, prepared.samples_per_example, loaded.processor
    )

    def batches() -> Iterator[Any]:
        return validation_batches(prepared.val, hook.batch_size, collator)

    setup = ReferenceContext(loaded, ranks, batches, run_config.model.trust_remote_code)
    model = TrainingModel(loaded.model, _objective(run_config, setup))
    with ranks.autocast():
        metrics = evaluate(model, batches(), device)
    figures = {key: value for key, value in metrics.items() if math.isfinite(value)}
    count = len(prepared.val) // prepared.samples_per_example
    what = "pairs" if prepared.samples_per_example == 2 else "samples"
    console.info(f"validation  {count:,} {what}  {format_metrics(figures)}")
    return figures


def count_trained_rows(
    run_config: RunConfig, contents: Sequence[int], loaded: LoadedModel, template: BoundTemplate
) -> int | None:
    """Count rows that the run has trained on, by their text.

    Args:
        run_config: config of the run.
        contents: digests of the rows.
        loaded: model and tokenizer of the run.
        template: bound chat template of the run.

    Returns:
        The number of rows; ``None`` if rows of the run are of another kind, so that they cannot be compared.

    Raises:
        XftError: the rows of the run cannot be read any more.
    """
    data = run_config.data
    if data.sample_kind != "samples" or not data.uses_template:
        return None
    train = data.prepare(loaded.tokenizer, template, loaded.processor).train
    return int(np.isin(np.array(contents, dtype=np.uint64), train.row_field("content")).sum())


def _objective(run_config: RunConfig, setup: ReferenceContext) -> Objective:
    """Bind the objective to the reference model of the run.

    A frozen copy of the model at the start of the run is rebuilt: the base model is loaded again with the same seed.
    """
    objective = as_objective(run_config.objective)
    if not isinstance(objective, ReferenceBasedObjective):
        return objective.bind_reference(setup)
    # Each log-probability is used once, so precomputing saves nothing.
    objective = replace(objective, precompute_ref_log_probs=False)
    model = run_config.model
    is_new = run_config.adapter is not None and model.resolve_source().adapter is None
    copied = ("frozen_copy",) if is_new else ("frozen_copy", "auto")
    if objective.reference not in copied:
        return objective.bind_reference(setup)
    seed_everything(run_config.seed)
    initial = model.load(
        model.load_tokenizer(), setup.ranks.device, run_config.adapter, run_config.quantization
    )
    return ObjectiveWithReference(objective, FrozenReference(initial.model.requires_grad_(False).eval()))


def format_metrics(figures: dict[str, Any]) -> str:
    """Format metrics as one line for the terminal."""
    return "  ".join(
        f"{key} {value:.4g}" for key, value in figures.items() if isinstance(value, int | float)
    )
