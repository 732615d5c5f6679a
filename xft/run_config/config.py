"""What a config may say at its top level."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from xft.compat.mmengine import Hook
from xft.data import DatasetConfig, Mixture
from xft.errors import ConfigError
from xft.models import CausalLMConfig, LoRA, Quantization, check_quantization
from xft.objectives import OnlineObjective, as_objective, next_token
from xft.optim import adamw, cosine
from xft.rollouts import Reward, RewardSet, RolloutConfig
from xft.strategies import SingleDeviceConfig, StrategyConfig
from xft.templates import ChatTemplate
from xft.types import LossFunction
from xft.types.ranges import Count, CountOrZero, Positive, Seed
from xft.utils.paths import VAL_ROWS


@dataclass
class TrainingConfig:
    """Length of the training and composition of a step.

    Args:
        epochs: passes over the training rows; the last step of a pass may be smaller.
        max_steps: number of optimizer steps, instead of ``epochs``.
        micro_batch_size: rows per forward pass and rank; with packing, each row is filled with samples.
        gradient_accumulation_steps: forward passes per optimizer step and rank.
        max_grad_norm: maximum global norm of the gradient; ``None`` disables clipping.
        min_steps_per_epoch: minimum number of optimizer steps per epoch. With little data, gradient
            accumulation, micro-batch size and packed length are reduced to reach it, with a log line.
            0 disables the reduction.
    """

    epochs: Positive = 3
    max_steps: Count | None = None
    micro_batch_size: Count = 1
    gradient_accumulation_steps: Count = 1
    max_grad_norm: Positive | None = 1.0
    min_steps_per_epoch: CountOrZero = 4

    def __post_init__(self) -> None:
        counts = {
            "max_steps": self.max_steps,
            "micro_batch_size": self.micro_batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ConfigError(key=f"training.{name}", got=value, expected="at least 1")
        for name, limit in (("epochs", self.epochs), ("max_grad_norm", self.max_grad_norm)):
            if limit is not None and limit <= 0:
                raise ConfigError(key=f"training.{name}", got=limit, expected="more than 0")


@dataclass
class RunConfig:
    """A whole run. The keys of a config are these.

    Args:
        model: the model to fine-tune.
        data: the training data.
        adapter: the adapter to train; ``None`` trains all weights.
        quantization: quantization of the frozen weights; ``None`` loads them as they are saved.
        template: the chat template; ``auto`` is the tokenizer's own.
        objective: the loss.
        rewards: rewards of sampled completions by name, for objectives with ``data.type='prompt'``.
        rollout: how completions are sampled.
        training: duration and batch sizes.
        optimizer: how weights are changed.
        lr_scheduler: learning rate as a function of the step.
        strategy: device, precision and distribution; a launcher makes ``ddp`` of a single device.
        hooks: callbacks by name; ``None`` under a name removes it.
        loggers: destinations of metrics, by name.
        eval_prompts: the sample questions, or a file of them; ``val_rows`` asks up to five validation rows.
        seed: of everything that is random but the choice of the validation rows.
        work_dir: the run folder; ``runs/NAME_OF_THE_CONFIG`` by default.
    """

    model: CausalLMConfig
    data: DatasetConfig | Mixture
    adapter: LoRA | None = None
    quantization: Quantization | None = None
    template: ChatTemplate = field(default_factory=ChatTemplate)
    objective: LossFunction = next_token
    rewards: Mapping[str, Reward] = field(default_factory=dict)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    optimizer: Callable[..., Any] = adamw
    lr_scheduler: Callable[..., Any] = cosine
    strategy: StrategyConfig = field(default_factory=SingleDeviceConfig)
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    loggers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    eval_prompts: str | list[Any] = field(default_factory=list)
    seed: Seed = 0
    work_dir: str | None = None

    def __post_init__(self) -> None:
        check_quantization(self.adapter, self.quantization)
        objective = as_objective(self.objective)
        if self.data.sample_kind != objective.data_kind:
            raise ConfigError(
                key="data.type",
                got=self.data.sample_kind,
                expected=f"{objective.data_kind}, which the objective needs",
                fix="choose another data.type or another objective (`xft list objectives`)",
            )
        self._check_rewards()
        kind = objective.model_kind
        given = self.model.kind
        # A vision-language model has the losses of a language model.
        if given != kind and (given, kind) != ("vision_language", "causal_lm"):
            raise ConfigError(
                key="model.type",
                got=given,
                expected=f"{kind}, which the objective trains",
                fix=f"set model.type={kind!r}, or choose another objective (`xft list objectives`)",
            )
        if self.eval_prompts and self.eval_prompts != VAL_ROWS and kind == "reward_model":
            raise ConfigError(
                "eval_prompts: a reward model scores answers and does not generate any; set eval_prompts=[], and use "
                "`xft score RUN FILE` when it is trained"
            )

    @property
    def needs_full_weights(self) -> bool:
        """Whether loading needs all weights of the model on every rank.

        Merging a saved adapter and DoRA on quantized weights compute with full matrices, and vision-language models
        are always read in full. Of any other model, a rank may read its own rows only.
        """
        adapter, model = self.adapter, self.model
        if model.kind == "vision_language":
            return True
        if adapter is None:
            # A saved adapter as the model is merged into its base.
            return model.resolve_source().adapter is not None
        return adapter.use_dora and self.quantization is not None

    def reward_set(self) -> RewardSet:
        """Return the rewards with their weights.

        Raises:
            ConfigError: a weight names no reward.
        """
        objective, rollout = self.objective, self.rollout
        weights = objective.reward_weights if isinstance(objective, OnlineObjective) else {}
        return RewardSet(self.rewards, weights, rollout.on_reward_error, rollout.reward_timeout)

    def _check_rewards(self) -> None:
        if isinstance(self.objective, OnlineObjective):
            self.reward_set()
            if self.objective.requires_rewards:
                self._check_comparison()
            self._check_answers(self.objective.on_policy_fraction)
            if self.adapter is None and not self.rollout.engine.supports_full_models:
                raise ConfigError(
                    key="adapter",
                    got=None,
                    expected="an adapter, which the server of rollout.engine gets after each update",
                    fix="train an adapter, or set rollout.engine.type='local'",
                )
            size = self.strategy.sequence_parallel_size
            if size > 1:
                raise ConfigError(
                    key="strategy.sequence_parallel_size", got=size, expected="1 with sampled completions"
                )
        elif self.rewards:
            raise ConfigError(
                key="rewards",
                got=sorted(self.rewards),
                expected="none: the objective trains on answers of the data",
                fix="set objective.type='grpo', or rewards={}",
            )

    def _check_answers(self, on_policy_fraction: float) -> None:
        """Check that the data keeps the answers of rows if the objective trains on some of them."""
        datasets = self.data.datasets.values() if isinstance(self.data, Mixture) else [self.data]
        keep_answers = all(dataset.encoding_options().keep_answers for dataset in datasets)
        if on_policy_fraction < 1 and not keep_answers:
            raise ConfigError(
                key="objective.lmbda",
                got=on_policy_fraction,
                expected="1 with data.keep_answers=False: the answers of the other prompts are those of the rows",
                fix="set data.keep_answers=True",
            )

    def _check_comparison(self) -> None:
        """Check that there is a reward, and several completions of a prompt to compare."""
        if not self.rewards:
            raise ConfigError(
                key="rewards", got={}, expected="at least one reward", fix="`xft list rewards` lists them"
            )
        if self.rollout.num_generations < 2:
            raise ConfigError(
                key="rollout.num_generations",
                got=self.rollout.num_generations,
                expected="at least 2: completions of a prompt are compared with each other",
            )


SECTION_ORDER = tuple(section.name for section in fields(RunConfig))
"""Order of the keys in configs that xft writes."""
