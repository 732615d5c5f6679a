"""The validation of a run, measured again on what it saved."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

import torch

from xft.data import Collator
from xft.distributed import seed_everything
from xft.evaluation import evaluate
from xft.evaluation.validation import validation_batches
from xft.models import LoadedModel, TrainingModel
from xft.models.reference import FrozenReference, ReferenceContext
from xft.objectives import Referenced, prepare_objective
from xft.run_config.config import Recipe
from xft.strategies import autocast
from xft.templates import BoundTemplate
from xft.training.hooks.validation import ValidationHook
from xft.types import Batch, Objective
from xft.utils import console


@dataclass
class Alone:
    """What an objective asks of a strategy, for one process.

    Attributes:
        device: where the model is.
        product: the type that the run takes products in, where it is not that of the weights.
    """

    device: torch.device
    product: torch.dtype | None = None
    data_rank: int = 0
    data_world_size: int = 1

    def place(self, batch: Batch) -> Batch:
        """The batch on the device of the model."""
        return batch.to(self.device)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Products in the type of the run."""
        with autocast(self.device, self.product):
            yield

    def gather(self, value: Any) -> list[Any]:
        """The value of the one process."""
        return [value]


def validate_again(
    recipe: Recipe, loaded: LoadedModel, template: BoundTemplate | None, device: torch.device
) -> dict[str, float]:
    """Evaluate a saved model on the rows that its run set aside, as the run did: same objective, same
    batches, same reference.

    Returns:
        The figures (see :func:`xft.evaluation.evaluate`) that are finite; none where no rows were set aside.
    """
    recipe.data.locate()
    prepared = recipe.data.prepare(loaded.tokenizer, template)
    if not prepared.val:
        console.info("validation  the run set no rows aside")
        return {}
    ranks = Alone(device, recipe.strategy.autocast_dtype)
    hook = next(
        (each for each in recipe.hooks.values() if isinstance(each, ValidationHook)), ValidationHook()
    )
    collator = Collator.for_model(loaded.tokenizer, loaded.supports_packing, prepared.samples_per_example)

    def batches() -> Iterator[Any]:
        return validation_batches(prepared.val, hook.batch_size, collator)

    setup = ReferenceContext(loaded, ranks, batches, recipe.model.trust_remote_code)
    model = TrainingModel(loaded.model, _objective(recipe, setup))
    with ranks.autocast():
        metrics = evaluate(model, batches(), device)
    figures = {key: value for key, value in metrics.items() if math.isfinite(value)}
    count = len(prepared.val) // prepared.samples_per_example
    what = "pairs" if prepared.samples_per_example == 2 else "samples"
    console.info(f"validation  {count:,} {what}  {line_of(figures)}")
    return figures


def _objective(recipe: Recipe, setup: ReferenceContext) -> Objective:
    """The objective, with the reference that the run had: where that was a copy of the model as the run
    began, it is loaded once more from where the run had it, under the same seed."""
    given = cast(Any, recipe.objective)
    names = {each.name for each in fields(given)} if is_dataclass(given) else set()
    if "precompute_ref_log_probs" in names:  # nothing is asked twice, so nothing is kept
        given = replace(given, precompute_ref_log_probs=False)
    copied = ("frozen_copy",) if recipe.adapter is not None else ("frozen_copy", "auto")
    if "reference" not in names or given.reference not in copied:
        return prepare_objective(given, setup)
    seed_everything(recipe.seed)
    began = recipe.model.load(
        recipe.model.load_tokenizer(), setup.ranks.device, recipe.adapter, recipe.quantization
    )
    return Referenced(given, FrozenReference(began.model.requires_grad_(False).eval()))


def line_of(figures: dict[str, Any]) -> str:
    """Figures as a person reads them."""
    return "  ".join(
        f"{key} {value:.4g}" for key, value in figures.items() if isinstance(value, int | float)
    )
