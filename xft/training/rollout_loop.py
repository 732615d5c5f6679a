"""Training loop of reinforcement learning: steps train on completions that the model samples before."""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from xft.data import SampleView
from xft.errors import CheckpointError, TrainingError
from xft.evaluation import evaluate
from xft.models import unwrap
from xft.rollouts import (
    PolicyBatcher,
    PolicyModel,
    PolicySample,
    Rollout,
    RolloutCollector,
    policy_samples_from_tensors,
    policy_samples_to_tensors,
    to_policy_samples,
    with_old_log_probs,
)
from xft.rollouts.metrics import rollout_metrics
from xft.training.loop import TrainLoop, abbreviate
from xft.types import Batch, LossOutput, Message

T = TypeVar("T")

VALIDATION_STEP = 2**63
"""Step number in the seeds of validation: the same in every validation, and different from that of any step."""


class RolloutLoop(TrainLoop):
    """Sample completions for some prompts, score them, and train on them in one or more steps.

    With the local engine, a resumed run samples what the killed run would have sampled: the tokens are a function of the
    weights, the seed, the step and the row. Completions that further steps reuse are in the checkpoint.

    Attributes:
        collector: samples and scores the completions.
        batcher: lays the completions out.
        rollouts: of the last sampling, on this rank; empty in a resumed run before its first sampling.
    """

    samples: SampleView
    collector: RolloutCollector
    batcher: PolicyBatcher
    rollouts: list[Rollout]

    def attach(self, collector: RolloutCollector) -> None:
        """Set the collector, which needs the prepared model."""
        self.collector = collector
        self.batcher = PolicyBatcher(self.collator, collector.config)
        self.rollouts = []
        self._policy_samples: list[PolicySample] = []
        self._rollout_metrics: dict[str, float] = {}
        self._rollout_seconds = 0.0
        self._log_probs: list[Tensor] = []
        if collector.objective.requires_rewards:
            self.validation_metric = "reward"

    def close(self) -> None:
        """Release the resources of the engine."""
        self.collector.config.engine.close()

    @property
    def _iteration(self) -> int:
        """Number of steps that have trained on the current completions."""
        return self.step % self.plan.batches.num_iterations

    def local_state(self) -> object:
        """Return the completions that the next step reuses, and their metrics; ``None`` if it samples."""
        if not self._iteration:
            return None
        return {
            "metrics": self._rollout_metrics,
            "samples": policy_samples_to_tensors(self._policy_samples),
        }

    def load_local_states(self, states: Sequence[object]) -> None:
        """Load the completions that the next step reuses; another number of ranks divides them again.

        Raises:
            CheckpointError: the next step reuses completions, and there are none.
        """
        if not self._iteration:
            return
        if not states:
            raise CheckpointError(
                f"the checkpoint of step {self.step} has no completions, which step {self.step + 1} reuses",
                key="rollout.num_iterations",
                got=self.plan.batches.num_iterations,
            )
        saved = [cast(Mapping[str, Any], state) for state in states]
        self._rollout_metrics = dict(saved[0]["metrics"])
        ranks = [policy_samples_from_tensors(state["samples"]) for state in saved]
        rank, world_size = self.strategy.data_rank, self.strategy.data_world_size
        everything = [sample for samples in ranks for sample in samples]
        self._policy_samples = ranks[rank] if len(ranks) == world_size else everything[rank::world_size]

    def _iter_batches(self) -> Generator[list[Batch]]:
        while True:
            if not self._iteration:
                self._sample_rollouts(self.step)
            yield self._lay_out(self._policy_samples)

    def _sample_rollouts(self, step: int) -> None:
        """Sample and score the completions of a step."""
        started = time.perf_counter()
        examples = [example for batch in self._micro_batches(self.strategy.data_rank) for example in batch]
        sampled, answers = self.collector.split_examples(self.samples, examples, step)
        rollouts, rewards = self._sample(self.samples, sampled, step)
        self._check_rewards(rewards)
        self.rollouts = self.collector.with_advantages(rollouts, rewards, self.strategy.data_rank)
        self._policy_samples = to_policy_samples(self.rollouts, answers)
        self._rollout_metrics = self._summarize(self.rollouts)
        self._rollout_seconds = time.perf_counter() - started
        self._log_rollouts(step + 1)

    def _check_rewards(self, rewards: Sequence[Sequence[float]]) -> None:
        """Check that a completion of the step has a reward, on any rank.

        Raises:
            TrainingError: all rewards returned ``None``, or failed and are skipped.
        """
        values = [value for local in rewards for value in local]
        if self.collector.objective.requires_rewards and all(map(math.isnan, values)):
            names = ", ".join(self.collector.rewards.rewards)
            raise TrainingError(
                f"rewards: none of the {len(values)} completions of step {self.step + 1} has a reward ({names} returned None "
                f"or failed); rows: {abbreviate(self.sample_origins())}",
                key="rewards",
                got=None,
                expected="a number for at least one completion",
            )

    def _lay_out(self, samples: Sequence[PolicySample]) -> list[Batch]:
        """Lay completions out in equally many batches on all ranks, at least one."""
        batches = self.batcher.batches(samples)
        longest = max(self.strategy.gather(len(batches)))
        dummies = [self.batcher.dummy_batch(self.samples[0]) for _ in range(max(longest, 1) - len(batches))]
        return [*batches, *dummies]

    def largest_batches(self, examples: Sequence[int]) -> tuple[list[Batch], list[Batch]]:
        """Sample completions of the maximum length, without rewards, for the dry run.

        All turns of the model in an environment are sampled as one; those of the environment are left out.

        Args:
            examples: indices of the prompts.

        Returns:
            The batches of a step, and a larger one, if shorter completions could form it.
        """
        config = self.collector.config
        collector = replace(
            self.collector,
            config=replace(
                config, max_new_tokens=config.num_turns * config.max_new_tokens, environment=None
            ),
            generator=copy(self.collector.generator),
        )
        collector.generator.stop_ids = []
        count = config.num_generations
        with self.strategy.autocast():
            rollouts = collector.generate(self._policy(), self.samples, examples, 0, count)
        samples = to_policy_samples([replace(rollout, advantages=(1.0,) * count) for rollout in rollouts])
        full = self.batcher.full_batch(samples)
        return self.batcher.batches(samples), [] if full is None else [full]

    def _run_step(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Run a step. Its record has the metrics of its completions, and ``rollout_seconds`` if it has sampled them."""
        is_first, self._log_probs = not self._iteration, []
        record = super()._run_step(batches)
        if self._log_probs and self._policy_samples:
            log_probs = torch.cat(self._log_probs).cpu()
            self._policy_samples = with_old_log_probs(self._policy_samples, log_probs)
        sampling = {"rollout_seconds": self._rollout_seconds} if is_first else {}
        return {**self._rollout_metrics, **sampling, **record, "train_seconds": record["seconds"]}

    def _after_forward(self, output: LossOutput) -> None:
        """Keep the log-probabilities before the first update, if further steps reuse the completions."""
        is_first = not self._iteration and self.plan.batches.num_iterations > 1
        if is_first and output.target_log_probs is not None:
            self._log_probs.append(output.target_log_probs)

    def validate(self, samples: SampleView) -> dict[str, float]:
        """Sample a completion of each of some held-out prompts, with the same random numbers in every validation.

        Args:
            samples: prompts, which the ranks divide among themselves.

        Returns:
            Metrics of :func:`~xft.rollouts.metrics.rollout_metrics` except those of groups, the same on all ranks. If the
            objective compares no rewards, its loss on these completions too.
        """
        ranks = self.strategy.data_world_size
        examples = list(range(self.strategy.data_rank, len(samples), ranks))
        strategy = self.strategy
        rollouts, _ = self._sample(samples, examples, VALIDATION_STEP, count=1)
        metrics = self._summarize(rollouts)
        if not self.collector.objective.requires_rewards:
            single = [replace(rollout, advantages=(1.0,)) for rollout in rollouts]
            batches = self._lay_out(to_policy_samples(single))
            with strategy.autocast():
                metrics |= evaluate(
                    unwrap(strategy.model),
                    map(strategy.to_device, batches),
                    strategy.device,
                    strategy.reduce_data_sum,
                )
            metrics.pop("perplexity", None)  # The loss is a divergence.
        return {
            name: metrics[name] for name in metrics if name not in ("reward_std", "frac_reward_zero_std")
        }

    def _sample(
        self, samples: SampleView, examples: Sequence[int], step: int, count: int | None = None
    ) -> tuple[list[Rollout], list[list[float]]]:
        strategy = self.strategy
        padded = [*examples]
        if strategy.params_are_sharded:
            # Forward passes are collective: all ranks sample for equally many prompts.
            padded += [0] * (max(strategy.gather(len(examples))) - len(examples))
        with strategy.autocast():
            rollouts = self.collector.sample(self._policy(), samples, padded, step, count)[: len(examples)]
        return rollouts, strategy.gather([reward for rollout in rollouts for reward in rollout.rewards])

    def _any_rank(self, value: bool) -> bool:
        return any(self.strategy.gather(value)) if self.strategy.params_are_sharded else value

    def _policy(self) -> PolicyModel:
        model, run_dir = unwrap(self.strategy.model).model, Path(self.runner.work_dir)
        return PolicyModel(
            model, self._any_rank, self.step, run_dir, self.runner.write_weights, self._run_on_rank_0
        )

    def _run_on_rank_0(self, function: Callable[[], T]) -> T:
        result = function() if self.strategy.rank == 0 else None
        return cast(T, self.strategy.gather(result)[0])

    def _summarize(self, rollouts: Sequence[Rollout]) -> dict[str, float]:
        return rollout_metrics(
            rollouts, list(self.collector.rewards.rewards), self.strategy.reduce_data_sum
        )

    def _log_rollouts(self, step: int) -> None:
        rows = [
            row
            for records in self.strategy.gather(
                [_record(rollout, self.collector) for rollout in self.rollouts]
            )
            for row in records
        ]
        for logger in self.runner.loggers:
            logger.rollouts(step, rows)


def _record(rollout: Rollout, collector: RolloutCollector) -> Mapping[str, Any]:
    tokenizer = collector.generator.tokenizer
    return {
        "row": rollout.origin,
        "prompt": tokenizer.decode(rollout.prompt),
        "completions": [
            {
                "text": completion.text,
                "tokens": completion.num_tokens,
                "stopped": completion.finish_reason == "stop",
                "reward": rollout.rewards[index],
                **{name: values[index] for name, values in rollout.rewards_by_name.items()},
                **({"turns": _turns(rollout.turns[index])} if rollout.turns else {}),
            }
            for index, completion in enumerate(rollout.completions)
        ],
    }


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
