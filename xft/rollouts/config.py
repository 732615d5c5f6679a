"""Sampling settings of reinforcement learning."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from xft.errors import ConfigError
from xft.rollouts.engines import Engine, LocalEngine
from xft.rollouts.environments import Environment
from xft.types.ranges import Count, Positive


@dataclass(frozen=True)
class RolloutConfig:
    """Settings that control how completions are sampled and scored in each step.

    The temperature is the only setting of the distribution. Top-p and penalties that the checkpoint recommends do not apply:
    the loss needs the probabilities that the tokens were drawn with.

    Args:
        num_generations: number of completions per prompt (the GRPO group size); objectives that compare rewards need at
            least 2.
        num_iterations: number of optimizer steps with the completions of a rollout. From the second step on, the
            probability ratio of ``grpo`` compares the policy with the policy before the first step, and is clipped.
        max_new_tokens: maximum number of tokens of a completion, or of a turn in an environment.
        temperature: divisor of the logits, in sampling and in the loss.
        pack_length: maximum number of tokens in a forward pass of the loss; a longer completion has a pass of its own.
        environment: function that responds to the model between its turns, such as a tool; ``None`` for completions of one
            turn.
        max_turns: maximum number of turns of the model in an environment.
        environment_timeout: timeout in seconds of one call of the environment; a call that exceeds it ends the run.
        engine: engine that generates the completions; ``local`` uses the trained model.
        on_reward_error: ``error`` ends the run if a reward fails; ``skip`` excludes the completions on which it fails. If
            the call of a :class:`~xft.rollouts.BatchReward` fails, these are all completions of the step on this rank. A
            step in which no completion has a reward ends the run.
        reward_timeout: timeout in seconds of one reward call (one completion; for a ``BatchReward``, all completions of the
            step on this rank).
    """

    num_generations: Annotated[int, Interval(ge=1, le=4096)] = 8
    num_iterations: Annotated[int, Interval(ge=1, le=1024)] = 1
    max_new_tokens: Count = 256
    temperature: Positive = 1.0
    pack_length: Count = 8192
    environment: Environment | None = None
    max_turns: Count = 4
    environment_timeout: Positive = 60.0
    engine: Engine = field(default_factory=LocalEngine)
    on_reward_error: Literal["error", "skip"] = "error"
    reward_timeout: Positive = 60.0

    def check_environment(self, params_are_sharded: bool) -> None:
        """Check that ranks may sample different numbers of turns.

        Raises:
            ConfigError: there is an environment, and parameters are sharded, so that each forward pass needs all ranks.
        """
        if params_are_sharded and self.environment is not None:
            raise ConfigError(
                key="rollout.environment",
                got=self.environment,
                expected="None under ZeRO-3 and FSDP2, whose ranks must sample the same number of turns",
                fix="use --deepspeed zero2, or ddp",
            )

    @property
    def num_turns(self) -> int:
        """Maximum number of turns of the model in a completion."""
        return 1 if self.environment is None else self.max_turns

    def largest_batch(self, prompts: int, prompt_length: int) -> int:
        """Return the maximum number of tokens in a forward pass of the loss, without those of an environment.

        Completions fill a batch up to ``pack_length``; a longer completion has a batch of its own.

        Args:
            prompts: number of prompts of a step.
            prompt_length: number of tokens of the longest prompt.
        """
        length = prompt_length + self.num_turns * self.max_new_tokens
        return max(length, min(self.pack_length, prompts * self.num_generations * length))
