"""Collect the rollouts of a step: sample completions and score them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from xft.data import SampleView
from xft.models import TextGenerator
from xft.models.generation import Completion
from xft.models.sampling import SampledTokens, SamplingOptions, derive_seed
from xft.objectives import OnlineObjective
from xft.objectives.grpo import MIN_SPREAD
from xft.rollouts.config import RolloutConfig
from xft.rollouts.engines import PolicyModel
from xft.rollouts.episodes import Episode, EpisodeRunner
from xft.rollouts.scoring import RewardSet
from xft.types import IGNORE_INDEX, Message, Sample

ON_POLICY_DRAW_INDEX = 2**63
"""Index reserved for the seed that decides whether a prompt is answered by the model; completions count from 0."""


@dataclass(frozen=True)
class Rollout:
    """A prompt, its completions and their rewards.

    Attributes:
        origin: location of the row.
        prompt: token ids of the prompt.
        tokens: sampled token ids of each completion, with their log-probabilities.
        completions: completions as text; of several turns, the last turn of the model.
        rewards: weighted sum of the rewards of each completion; NaN for a completion without a reward.
        rewards_by_name: rewards of each completion by the name of the reward, not weighted; NaN if the reward is
            ``None`` or failed.
        advantages: advantage of each completion; NaN for a completion that is not trained on. Empty until
            :meth:`RolloutCollector.with_advantages`.
        turns: messages after the prompt of each completion; empty without an environment.
    """

    origin: str
    prompt: list[int]
    tokens: list[SampledTokens]
    completions: list[Completion]
    rewards: list[float] = field(default_factory=list)
    rewards_by_name: dict[str, list[float]] = field(default_factory=dict)
    advantages: tuple[float, ...] = ()
    turns: list[list[Message]] = field(default_factory=list)

    @property
    def has_spread(self) -> bool:
        """Whether the rewards differ within the group; a group of equal rewards has no advantages."""
        present = [reward for reward in self.rewards if not math.isnan(reward)]
        return bool(present) and max(present) - min(present) > MIN_SPREAD


@dataclass(frozen=True)
class RolloutCollector:
    """Sample and score completions.

    Attributes:
        config: sampling settings.
        rewards: rewards of the config.
        objective: objective that computes the advantages, and selects the completions to train on.
        generator: template, tokenizer and stop tokens.
        seed: random seed of the run.
    """

    config: RolloutConfig
    rewards: RewardSet
    objective: OnlineObjective
    generator: TextGenerator
    seed: int

    def sample(
        self,
        policy: PolicyModel,
        prompts: SampleView,
        indices: Sequence[int],
        step: int,
        count: int | None = None,
    ) -> list[Rollout]:
        """Sample and score the completions of some prompts.

        With the local engine, the tokens are a function of the weights, the random seed of the run, the step, the index of
        the prompt and the number of the completion. A server gets the same seeds, but may not reproduce its tokens.

        Args:
            policy: trained model.
            prompts: prompts of the data set.
            indices: indices of the prompts to answer.
            step: number of updates so far.
            count: number of completions per prompt; by default ``num_generations`` of the config.

        Raises:
            TrainingError: the engine, the environment or a reward fails.
            TemplateError: the chat template cannot render the messages of the environment.
            ConfigError: the environment variable with the API key of the server is not set.
        """
        count = count or self.config.num_generations
        rollouts = self.generate(policy, prompts, indices, step, count)
        if not rollouts:
            return []
        columns = [prompts.columns(index) for index in indices]
        scored = self.rewards.score(
            [completion for rollout in rollouts for completion in rollout.completions],
            [row for row in columns for _ in range(count)],
            [rollout.origin for rollout in rollouts for _ in range(count)],
        )
        return [
            replace(
                rollout,
                rewards=scored.totals[index * count : (index + 1) * count],
                rewards_by_name={
                    name: values[index * count : (index + 1) * count]
                    for name, values in scored.rewards_by_name.items()
                },
            )
            for index, rollout in enumerate(rollouts)
        ]

    def generate(
        self, policy: PolicyModel, prompts: SampleView, indices: Sequence[int], step: int, count: int
    ) -> list[Rollout]:
        """Sample the completions of some prompts, without rewards; arguments and errors as in :meth:`sample`."""
        generate = partial(self.config.engine.generate, policy, options=self.options)
        prompt_ids = [_prompt_ids(prompts[index]) for index in indices]
        pairs = [(index, number) for index in indices for number in range(count)]
        seeds = [derive_seed(self.seed, step, *pair) for pair in pairs]
        groups = generate(
            prompt_ids, [seeds[start : start + count] for start in range(0, len(seeds), count)]
        )
        episodes = [
            Episode(
                ids,
                prompts.columns(index) if self.config.environment is not None else {},
                prompts.origin(index),
                tokens,
                self.generator.to_completion(tokens.ids),
            )
            for index, ids, group in zip(indices, prompt_ids, groups, strict=True)
            for tokens in group
        ]
        if (environment := self.config.environment) is not None:
            runner = EpisodeRunner(
                environment, self.config.max_turns, self.generator, self.config.environment_timeout
            )
            runner.run(
                episodes, lambda number, turn: derive_seed(self.seed, step, *pairs[number], turn), generate
            )
        return [
            _to_rollout(episodes[start : start + count], self.config.environment is not None)
            for start in range(0, len(episodes), count)
        ]

    @property
    def options(self) -> SamplingOptions:
        """Sampling options of the engine."""
        pad = self.generator.tokenizer.pad_token_id or 0
        return SamplingOptions(
            self.config.max_new_tokens, self.config.temperature, self.generator.stop_ids, pad
        )

    def with_advantages(
        self, rollouts: Sequence[Rollout], rewards: Sequence[Sequence[float]], rank: int
    ) -> list[Rollout]:
        """Return copies of the rollouts of this rank with the advantages of their completions.

        The advantage is NaN for a completion that is not trained on: the objective excludes it, or it is truncated and
        ``mask_truncated_completions`` is set.

        Args:
            rollouts: rollouts of this rank.
            rewards: rewards of the completions of each rank.
            rank: this rank.
        """
        count = self.config.num_generations
        values = torch.tensor([value for local in rewards for value in local], dtype=torch.float64)
        advantages = self.objective.advantages(values, count).tolist() if len(values) else []
        begin = sum(len(local) for local in rewards[:rank])
        results = []
        for index, rollout in enumerate(rollouts):
            start = begin + index * count
            local = tuple(advantages[start : start + count])
            if self.objective.mask_truncated_completions:
                local = tuple(
                    value if tokens.stopped else math.nan
                    for value, tokens in zip(local, rollout.tokens, strict=True)
                )
            results.append(replace(rollout, advantages=local))
        return results

    def split_examples(
        self, prompts: SampleView, indices: Sequence[int], step: int
    ) -> tuple[list[int], list[Sample]]:
        """Divide the prompts of a step into those that the model answers and those that are answered by their rows.

        Args:
            prompts: prompts of the data set.
            indices: indices of the prompts of the step.
            step: number of updates so far.

        Returns:
            The indices of the prompts that the model answers, and the samples of the other prompts with their answers.
        """
        fraction = self.objective.on_policy_fraction
        is_sampled = [
            derive_seed(self.seed, step, index, ON_POLICY_DRAW_INDEX) < fraction * 2**64
            for index in indices
        ]
        draws = list(zip(indices, is_sampled, strict=True))
        answers = [prompts[index] for index, sampled in draws if not sampled]
        return [index for index, sampled in draws if sampled], answers


def _to_rollout(episodes: Sequence[Episode], has_turns: bool) -> Rollout:
    return Rollout(
        episodes[0].origin,
        episodes[0].prompt,
        [episode.tokens for episode in episodes],
        [episode.completion for episode in episodes],
        turns=[episode.messages for episode in episodes] if has_turns else [],
    )


def _prompt_ids(sample: Sample) -> list[int]:
    """Return the ids before the answer of the row, if the data keeps answers."""
    is_answer = sample.labels != IGNORE_INDEX
    ids: list[int] = sample.input_ids[: int(is_answer.argmax()) if is_answer.any() else None].tolist()
    return ids
