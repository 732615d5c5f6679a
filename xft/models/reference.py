"""Reference models of preference objectives.

The reference is the model at the beginning of the run: the model with its new adapter disabled, a frozen copy, or a
saved model. Its log-probabilities can be computed once, before training.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from torch import Tensor, nn

from xft.errors import ConfigError, TrainingError
from xft.models.frozen_model import load_frozen_model
from xft.models.loading import LoadedModel
from xft.models.scoring import eval_mode, sequence_log_probs, target_log_probs
from xft.types import Batch
from xft.utils import console

T = TypeVar("T")
Reference = Callable[[nn.Module, Batch], Tensor]
"""Maps the trained model and a batch to ``(samples,)`` log-probabilities, without gradients."""


@contextmanager
def _adapter_disabled(model: PeftModel) -> Iterator[None]:
    """Return a context in which a model computes without its adapter, in evaluation mode.

    peft clears ``requires_grad`` at the beginning, and sets it at the end on the parameters that are registered then.
    FSDP2 may have registered other ones in the meantime, the sharded in place of the gathered.
    """
    flags = [(param, param.requires_grad) for param in model.parameters()]
    try:
        with eval_mode(model), model.disable_adapter():
            yield
    finally:
        for param, flag in flags:
            param.requires_grad_(flag)


class TokenReference(Protocol):
    """A reference that gives the log-probability of each token."""

    def target_log_probs(self, model: nn.Module, batch: Batch, temperature: float) -> Tensor:
        """Return ``(targets,)`` log-probabilities, without gradients.

        Args:
            model: the trained model.
            batch: flat or padded.
            temperature: divisor of the logits.
        """


class DataParallelContext(Protocol):
    """The members of a strategy that a reference needs.

    Attributes:
        data_rank: index of this rank's data-parallel group.
        data_world_size: number of data-parallel groups.
        device: device of the model.
        params_are_sharded: parameters are sharded, which makes every forward pass a collective operation.
    """

    data_rank: int
    data_world_size: int
    device: torch.device
    params_are_sharded: bool

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to this rank's device, and attach the sequence-parallel group."""

    def autocast(self) -> AbstractContextManager[None]:
        """Return the autocast context of training."""

    def gather(self, value: T, /) -> list[T]:
        """Return the values of all ranks in rank order. Collective."""


@dataclass(frozen=True)
class ReferenceContext:
    """Everything that an objective needs to build its reference.

    Attributes:
        loaded: the model at the beginning of the run.
        ranks: the strategy.
        batches: returns batches with every sample of all splits once. Called only to precompute log-probabilities.
        trust_remote_code: as in the model section of the config.
    """

    loaded: LoadedModel
    ranks: DataParallelContext
    batches: Callable[[], Iterable[Batch]]
    trust_remote_code: bool = False

    def load_frozen(self, path: str, key: str, bits: int | None = None) -> nn.Module:
        """Load a saved model that is compared with the trained one; see :func:`load_frozen_model`."""
        return load_frozen_model(path, key, self.loaded, self.ranks.device, bits, self.trust_remote_code)


@dataclass(frozen=True)
class DisabledAdapterReference:
    """The trained model with its adapter disabled."""

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return ``(samples,)`` log-probabilities.

        Raises:
            ConfigError: the model has no adapter.
        """
        if not isinstance(model, PeftModel):
            raise _reference_error("disable_adapter", "a model with an adapter", "use 'frozen_copy'")
        with _adapter_disabled(model):
            return sequence_log_probs(model, batch).log_probs

    def target_log_probs(self, model: nn.Module, batch: Batch, temperature: float) -> Tensor:
        """Return ``(targets,)`` log-probabilities.

        Raises:
            ConfigError: the model has no adapter.
        """
        if not isinstance(model, PeftModel):
            raise _reference_error("disable_adapter", "a model with an adapter", "use 'frozen_copy'")
        with _adapter_disabled(model):
            return target_log_probs(model, batch, temperature)


@dataclass(frozen=True)
class FrozenReference:
    """A separate model, which no optimizer, checkpoint or wrapper contains.

    Attributes:
        model: on the device of the trained model.
    """

    model: nn.Module

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return ``(samples,)`` log-probabilities."""
        with eval_mode(self.model):
            return sequence_log_probs(self.model, batch).log_probs

    def target_log_probs(self, model: nn.Module, batch: Batch, temperature: float) -> Tensor:
        """Return ``(targets,)`` log-probabilities."""
        with eval_mode(self.model):
            return target_log_probs(self.model, batch, temperature)


@dataclass(frozen=True)
class PrecomputedReference:
    """Precomputed log-probabilities.

    Attributes:
        hashes: ``(samples,)`` sorted hashes of ids and labels.
        log_probs: ``(samples,)``.
    """

    hashes: npt.NDArray[np.uint64]
    log_probs: npt.NDArray[np.float32]

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return ``(samples,)`` log-probabilities.

        Raises:
            TrainingError: the batch has a sample without a precomputed log-probability.
        """
        hashes = np.asarray(batch.sample_hashes, dtype=np.uint64)
        rows = np.searchsorted(self.hashes, hashes).clip(max=len(self.hashes) - 1)
        if len(hashes) != batch.num_samples or not np.array_equal(self.hashes[rows], hashes):
            raise TrainingError(
                f"objective.precompute_ref_log_probs: {len(self.hashes)} answers have a log-probability, but not all "
                f"{batch.num_samples} of this batch; batches must come from xft.data.Collator, with the samples of "
                "this run",
                key="objective.precompute_ref_log_probs",
                got=batch.num_samples,
            )
        return torch.from_numpy(self.log_probs[rows]).to(batch.input_ids.device)


def build_reference(name: str, precompute: bool, context: ReferenceContext) -> Reference:
    """Build the reference that a config names.

    Args:
        name: ``auto``, ``disable_adapter``, ``frozen_copy``, or the path of a saved model.
        precompute: compute all log-probabilities now; no second model stays in memory.
        context: of the run.

    Raises:
        ConfigError: the model does not support this reference.
        ModelError: the saved model cannot be loaded.
    """
    reference = build_token_reference(name, context, precompute)
    return _precompute(reference, context) if precompute else reference


def build_token_reference(
    name: str, context: ReferenceContext, precompute: bool = False
) -> "DisabledAdapterReference | FrozenReference":
    """Build a reference whose log-probabilities are computed in every step.

    Args:
        name: as in :func:`build_reference`.
        context: of the run.
        precompute: the reference is only used before the first step, and needs no copy of the model.

    Raises:
        ConfigError: the model does not support this reference.
        ModelError: the saved model cannot be loaded.
    """
    model = context.loaded.model
    has_adapter = isinstance(model, PeftModel)
    if name == "auto":
        name = "disable_adapter" if has_adapter and not context.loaded.continued else "frozen_copy"
    if context.ranks.params_are_sharded and name == "frozen_copy" and not precompute:
        raise _reference_error(
            name,
            "another reference under ZeRO-3 and FSDP2, where no rank holds the full model to copy",
            "set objective.precompute_ref_log_probs=True, or train an adapter",
        )
    if name == "disable_adapter":
        if not has_adapter:
            raise _reference_error(name, "a model with an adapter", "use 'frozen_copy'")
        return DisabledAdapterReference()
    if name == "frozen_copy":
        # Precomputing runs before the first step, and needs no copy.
        return FrozenReference(model if precompute else _frozen_copy(model))
    return FrozenReference(context.load_frozen(name, "objective.reference"))


def _reference_error(name: str, expected: str, fix: str) -> ConfigError:
    fix = f"{fix}, or set the path of a saved model"
    return ConfigError(key="objective.reference", got=name, expected=expected, fix=fix)


def _frozen_copy(model: nn.Module) -> nn.Module:
    """Copy a model. Frozen parameters, such as the base of an adapter, never change and are shared with the copy."""
    frozen = {id(param): param for param in model.parameters() if not param.requires_grad}
    try:
        copied = copy.deepcopy(model, frozen)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        expected = f"a model that can be copied ({error})"
        raise _reference_error("frozen_copy", expected, "train an adapter") from error
    return copied.requires_grad_(False).eval()


def _precompute(reference: Reference, context: ReferenceContext) -> PrecomputedReference:
    """Compute the log-probabilities of all samples, distributed over the ranks."""
    ranks = context.ranks
    log_probs: dict[int, float] = {}
    console.info("precomputing the log-probabilities of the reference")
    for batch in _shard_batches(context.batches(), ranks.data_rank, ranks.data_world_size):
        with ranks.autocast():
            values = reference(context.loaded.model, ranks.to_device(batch))
        log_probs.update(zip(batch.sample_hashes, values.tolist(), strict=True))
    for gathered in ranks.gather(log_probs):
        log_probs.update(gathered)
    hashes = sorted(log_probs)
    return PrecomputedReference(
        np.asarray(hashes, dtype=np.uint64),
        np.asarray([log_probs[key] for key in hashes], dtype=np.float32),
    )


def _shard_batches(batches: Iterable[Batch], rank: int, world_size: int) -> Iterator[Batch]:
    """Yield one batch per round for this rank.

    All ranks get the same number of batches, because forward passes may be collective. If the last round has too
    few batches, some ranks compute the same batch.
    """
    remaining = iter(batches)
    while batches_of_round := list(islice(remaining, world_size)):
        yield batches_of_round[min(rank, len(batches_of_round) - 1)]
