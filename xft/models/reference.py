"""The reference: the model that an objective measures the trained one against.

It is the model as it was when the run began. With an adapter, that is the model with the adapter
switched off; without one, it is a frozen copy; or it is another model, read from a folder. Its
log-probabilities can be taken once, ahead of the training, and kept.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from torch import Tensor, nn

from xft.errors import ConfigError, TrainingError
from xft.models.loading import LoadedModel
from xft.models.saved_model import load_saved_model
from xft.models.scoring import eval_mode, sequence_log_probs
from xft.types import Batch
from xft.utils import console

T = TypeVar("T")

Reference = Callable[[nn.Module, Batch], Tensor]
"""From the trained model and a batch to ``(samples,)`` log-probabilities, without gradients."""


class DataParallelContext(Protocol):
    """The part of a strategy that is wanted here: where the model is, and the other ranks."""

    data_rank: int
    data_world_size: int
    device: torch.device
    params_are_sharded: bool

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to this rank's device, and attach the sequence-parallel group."""

    def autocast(self) -> AbstractContextManager[None]:
        """Enter the autocast of the training."""

    def gather(self, value: T, /) -> list[T]:
        """Return the values of all ranks in rank order. Collective."""


@dataclass(frozen=True)
class ReferenceContext:
    """What an objective may ask for before training begins.

    Attributes:
        loaded: the model, as the run begins with it.
        ranks: the strategy.
        batches: lays out every sample of every split once: what is cached ahead. Called only
            where something is.
        trust_remote_code: of the config's model.
    """

    loaded: LoadedModel
    ranks: DataParallelContext
    batches: Callable[[], Iterable[Batch]]
    trust_remote_code: bool = False


@dataclass(frozen=True)
class DisabledAdapterReference:
    """The trained model with its adapter switched off."""

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The log-probability of each answer.

        Raises:
            ConfigError: the model has no adapter.
        """
        if not isinstance(model, PeftModel):
            raise ConfigError(
                "objective.reference: got 'disable_adapter', but the model has no adapter; "
                "use 'frozen_copy', or the folder of a model"
            )
        with eval_mode(model), model.disable_adapter():
            return sequence_log_probs(model, batch).log_probs


@dataclass(frozen=True)
class FrozenReference:
    """A model of its own.

    It is no part of the trained module, so that no optimizer, checkpoint or wrapper sees it.

    Attributes:
        model: on the device of the trained one.
    """

    model: nn.Module

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The log-probability of each answer."""
        with eval_mode(self.model):
            return sequence_log_probs(self.model, batch).log_probs


@dataclass(frozen=True)
class PrecomputedReference:
    """Log-probabilities that were taken before.

    Attributes:
        digests: ``(samples,)`` of the samples' ids and labels, sorted.
        log_probs: ``(samples,)``.
    """

    digests: npt.NDArray[np.uint64]
    log_probs: npt.NDArray[np.float32]

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The log-probability of each answer.

        Raises:
            TrainingError: an answer is none of those that were kept.
        """
        wanted = np.asarray(batch.sample_hashes, dtype=np.uint64)
        places = np.searchsorted(self.digests, wanted).clip(max=len(self.digests) - 1)
        if len(wanted) != batch.num_samples or not np.array_equal(self.digests[places], wanted):
            raise TrainingError(
                f"the cached reference knows {len(self.digests)} answers, and not all of a batch of "
                f"{batch.num_samples}; batches must come from xft.data.Collator, with the samples of this run"
            )
        return torch.from_numpy(self.log_probs[places]).to(batch.input_ids.device)


def build_reference(name: str, precompute: bool, setup: ReferenceContext) -> Reference:
    """Make the reference that a config names.

    Args:
        name: ``auto``, ``disable_adapter``, ``frozen_copy``, or what ``load_saved_model`` opens.
        precompute: take its log-probabilities now; then no second model stays in memory.
        setup: the run.

    Raises:
        ConfigError: the model cannot have this reference.
        ModelError: the folder cannot be opened.
    """
    adapted = isinstance(setup.loaded.model, PeftModel)
    if name == "auto":
        name = "disable_adapter" if adapted else "frozen_copy"
    if setup.ranks.params_are_sharded and name == "frozen_copy" and not precompute:
        raise ConfigError(
            "objective.reference: got 'frozen_copy', but under ZeRO-3 no rank has the whole model to copy; set "
            "objective.precompute_ref_log_probs=True, train an adapter with reference='disable_adapter', or give the "
            "folder of a model"
        )
    reference: Reference
    if name == "disable_adapter":
        if not adapted:
            raise ConfigError(
                "objective.reference: got 'disable_adapter', but all weights are trained; use 'frozen_copy', or the "
                "folder of a model"
            )
        reference = DisabledAdapterReference()
    elif name == "frozen_copy":
        # What is only asked now, before the first step, needs no copy.
        reference = (
            FrozenReference(setup.loaded.model)
            if precompute
            else FrozenReference(_freeze(setup.loaded.model))
        )
    else:
        reference = FrozenReference(_open(name, setup))
    return _cache(reference, setup) if precompute else reference


def _freeze(model: nn.Module) -> nn.Module:
    try:
        frozen = copy.deepcopy(model)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ConfigError(
            f"objective.reference: the model cannot be copied ({error}); give the folder of a model, or "
            "train an adapter"
        ) from error
    return _still(frozen)


def _open(path: str, setup: ReferenceContext) -> nn.Module:
    trained = setup.loaded
    opened = load_saved_model(
        path,
        dtype=str(trained.base.dtype).removeprefix("torch."),
        device=setup.ranks.device,
        trust_remote_code=setup.trust_remote_code,
        kind="causal_lm",
    )
    ours: Any = trained.tokenizer
    theirs: Any = opened.tokenizer
    if ours.get_vocab() != theirs.get_vocab():
        raise ConfigError(
            f"objective.reference: {path} has {len(theirs)} tokens that are not the {len(ours)} of the trained "
            "model; the reference must have the same tokenizer, added tokens included"
        )
    if trained.supports_packing and not opened.supports_packing:
        raise ConfigError(
            f"objective.reference: {path} cannot keep samples apart that stand one behind the other, as the "
            "trained model does; use a reference of the same architecture"
        )
    return _still(opened.model)


def _still(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False).eval()


def _cache(reference: Reference, setup: ReferenceContext) -> PrecomputedReference:
    """Ask the reference for every sample; each rank for its share, all ranks get all of it."""
    ranks = setup.ranks
    model = setup.loaded.model
    known: dict[int, float] = {}
    console.info("taking the log-probabilities of the reference ahead")
    for batch in _dealt(setup.batches(), ranks.data_rank, ranks.data_world_size):
        with ranks.autocast():
            found = reference(model, ranks.to_device(batch))
        known.update(zip(batch.sample_hashes, found.tolist(), strict=True))
    for each in ranks.gather(known):
        known.update(each)
    digests = np.asarray(sorted(known), dtype=np.uint64)
    return PrecomputedReference(
        digests, np.asarray([known[int(each)] for each in digests], dtype=np.float32)
    )


def _dealt(batches: Iterable[Batch], rank: int, world_size: int) -> Iterator[Batch]:
    """One batch for each rank in every round, as ranks may have to compute together; where the last round has
    too few, some get the same one."""
    waiting = iter(batches)
    while dealt := list(islice(waiting, world_size)):
        yield dealt[min(rank, len(dealt) - 1)]
