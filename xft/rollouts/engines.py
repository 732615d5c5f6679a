"""Engines, which generate the completions of a step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from torch import nn

from xft.models.checks.attention_checks import check_loaded
from xft.models.sampling import SampledTokens, SamplingOptions, sample_completions
from xft.registry import register
from xft.types.ranges import Count

T = TypeVar("T")


class RunOnRank0(Protocol):
    """Call a function on rank 0, and return its result on all ranks."""

    def __call__(self, function: Callable[[], T], /) -> T:
        """Call the function."""


@dataclass(frozen=True)
class PolicyModel:
    """Model of a run, and the operations that an engine needs.

    Attributes:
        model: trained model, with its adapter.
        any_rank: logical OR over the ranks that share sharded parameters; without sharding, the value itself. Collective.
        version: number of updates of the model so far.
        run_dir: folder of the run.
        save: writes the adapter or the model to a new folder, in the format of peft or transformers. Collective.
        run_on_rank_0: calls a function on rank 0, and returns its result on all ranks. Collective.
    """

    model: nn.Module
    any_rank: Callable[[bool], bool]
    version: int
    run_dir: Path
    save: Callable[[Path], None]
    run_on_rank_0: RunOnRank0


class Engine(ABC):
    """Generates completions with the current weights of the policy."""

    supports_full_models: ClassVar[bool] = True
    """Whether the engine also samples for full fine-tuning; otherwise, only for adapters."""

    @abstractmethod
    def generate(
        self,
        policy: PolicyModel,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        options: SamplingOptions,
    ) -> list[list[SampledTokens]]:
        """Generate the completions of some prompts.

        Args:
            policy: trained model.
            prompts: token ids of each prompt.
            seeds: for each prompt, the 64-bit seed of each completion.
            options: sampling options.

        Returns:
            The completions of each prompt.

        Raises:
            TrainingError: the engine fails.
        """

    def close(self) -> None:  # noqa: B027  Most engines have no resources.
        """Release resources outside of this process, at the end of a run and after an error."""


@register("engine", "local")
@dataclass(frozen=True)
class LocalEngine(Engine):
    """Sample with the trained model, in this process.

    Args:
        batch_size: maximum number of completions per batch (at least one prompt's group); bounds the memory of the KV cache.
    """

    batch_size: Count = 128

    def generate(
        self,
        policy: PolicyModel,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[Sequence[int]],
        options: SamplingOptions,
    ) -> list[list[SampledTokens]]:
        """Sample the completions, with prompts of similar length in a batch.

        Prompts of different lengths share a batch only if left padding leaves the logits of the model unchanged, which is
        measured. Otherwise, the prompts of a batch have equal lengths.
        """
        size = max(1, self.batch_size // len(seeds[0])) if seeds else 1
        check = check_loaded(policy.model)
        batches = _batches(prompts, size, check.pads_left and not check.problem)
        completions: dict[int, list[SampledTokens]] = {}
        number = 0
        # With sharded parameters, a rank that has fewer batches repeats its last batch.
        while policy.any_rank(number < len(batches)):
            indices = batches[min(number, len(batches) - 1)]
            groups = sample_completions(
                policy.model,
                [prompts[index] for index in indices],
                [seeds[index] for index in indices],
                options,
                policy.any_rank,
            )
            completions.update(zip(indices, groups, strict=True))
            number += 1
        return [completions[index] for index in range(len(prompts))]


def _batches(prompts: Sequence[Sequence[int]], size: int, pads: bool) -> list[list[int]]:
    """Return the indices of the prompts of each batch, sorted by length; without padding, lengths in a batch are equal."""
    batches: list[list[int]] = []
    for index in sorted(range(len(prompts)), key=lambda index: len(prompts[index])):
        last = batches[-1] if batches else []
        if last and len(last) < size and (pads or len(prompts[last[0]]) == len(prompts[index])):
            last.append(index)
        else:
            batches.append([index])
    return batches
