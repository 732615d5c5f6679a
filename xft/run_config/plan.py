"""Plan of a run: batch sizes, adapted to small data sets, and number of steps."""

import math
from dataclasses import dataclass, replace

from xft.data import EpochBatchSampler, SampleView
from xft.run_config.config import TrainingConfig
from xft.strategies import Batching


@dataclass(frozen=True)
class TrainingPlan:
    """Batches and number of steps of a run.

    Attributes:
        batches: which samples go into which micro-batch.
        num_steps: optimizer steps in the whole run.
        notes: what was adapted to little data, a line each.
        data: a digest of the samples.
        max_grad_norm: limit of the global gradient norm; ``None`` does not clip.
    """

    batches: EpochBatchSampler
    num_steps: int
    notes: tuple[str, ...]
    data: str
    max_grad_norm: float | None = None

    @property
    def batching(self) -> Batching:
        """Shape and number of the optimizer steps."""
        batches = self.batches
        return Batching(
            batches.micro_batch_size,
            batches.gradient_accumulation_steps,
            self.num_steps,
            self.max_grad_norm,
        )

    def fingerprint(self) -> str:
        """A text that changes with the samples, their order, and what is in a step."""
        plan = self.batches
        window = plan.gradient_accumulation_steps * plan.world_size
        grouped = " grouped" if plan.group_by_length else ""
        return f"{self.data} {plan.pack_length} {plan.seed} {plan.micro_batch_size} {window}{grouped}"

    def batching_state(self) -> dict[str, int | None]:
        """Return the batch sizes that a checkpoint stores; ``window`` counts micro-batches of all ranks per step."""
        plan = self.batches
        return {
            "capacity": plan.pack_length,
            "batch_size": plan.micro_batch_size,
            "window": plan.gradient_accumulation_steps * plan.world_size,
            "world_size": plan.world_size,
        }


def make_plan(
    samples: SampleView,
    training: TrainingConfig,
    max_length: int,
    packing: bool,
    seed: int,
    world_size: int = 1,
    samples_per_example: int = 1,
    padded: bool = False,
    num_iterations: int = 1,
) -> TrainingPlan:
    """Plan a run.

    With few rows, the batch sizes of the config may leave an epoch one step or none. Then accumulation
    shrinks first, then the rows in a batch, then the length of a packed row, until an epoch has
    ``training.min_steps_per_epoch`` steps or nothing is left to shrink.

    Args:
        samples: the training split.
        training: what the config wants.
        max_length: tokens in a packed row.
        packing: whether rows are packed.
        seed: of the order.
        world_size: ranks that share an epoch.
        samples_per_example: as in :class:`~xft.data.Collator`; examples are what is planned.
        padded: whether the samples of a batch are padded to the longest.
        num_iterations: number of consecutive steps with the same rows.
    """
    lengths = tuple(samples.lengths.reshape(-1, samples_per_example).sum(axis=1).tolist())
    requested = EpochBatchSampler(
        lengths,
        micro_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        pack_length=max_length if packing else None,
        seed=seed,
        world_size=world_size,
        group_by_length=padded,
        num_iterations=num_iterations,
    )
    plan = _shrink(requested, training.min_steps_per_epoch)
    changes = {
        "gradient_accumulation_steps": (
            requested.gradient_accumulation_steps,
            plan.gradient_accumulation_steps,
        ),
        "micro_batch_size": (requested.micro_batch_size, plan.micro_batch_size),
        "packed length": (requested.pack_length, plan.pack_length),
    }
    notes = [f"{label} {before} → {after}" for label, (before, after) in changes.items() if before != after]
    if notes:
        notes = [
            f"few rows: {', '.join(notes)}, so that an epoch has {plan.steps_per_epoch} steps "
            f"instead of {requested.steps_per_epoch} (training.min_steps_per_epoch=0 leaves them)"
        ]
    steps = training.max_steps or max(1, math.ceil(training.epochs * plan.steps_per_epoch))
    return TrainingPlan(plan, steps, tuple(notes), samples.fingerprint(), training.max_grad_norm)


def _shrink(plan: EpochBatchSampler, least: int) -> EpochBatchSampler:
    def enough(candidate: EpochBatchSampler) -> bool:
        return candidate.steps_per_epoch >= least

    while not enough(plan) and plan.gradient_accumulation_steps > 1:
        plan = replace(plan, gradient_accumulation_steps=plan.gradient_accumulation_steps // 2)
    while not enough(plan) and plan.micro_batch_size > 1:
        plan = replace(plan, micro_batch_size=plan.micro_batch_size // 2)
    longest = max(plan.lengths)
    while not enough(plan) and plan.pack_length is not None and plan.pack_length > longest:
        plan = replace(plan, pack_length=max(longest, plan.pack_length // 2))
    return plan
