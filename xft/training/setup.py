"""Set up the components of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from xft.checkpoint.resume_state import ResumeState
from xft.data import Collator, PreparedData
from xft.distributed import check_sequence_parallel, resolve_device, seed_everything
from xft.errors import ConfigError
from xft.evaluation.prompts import EvalPrompt
from xft.loggers import Logger
from xft.models import (
    NF4,
    LoadedModel,
    ModelMetadata,
    TextGenerator,
    TrainingModel,
    VisionLanguageConfig,
)
from xft.models.loading import choose_dtype
from xft.models.reference import ReferenceContext
from xft.models.reward_head import is_reward_model, set_pad_token
from xft.models.rope import length_warning
from xft.objectives import OnlineObjective, as_objective
from xft.optim import build_optimizer, check_lr_scheduler
from xft.rollouts import RolloutCollector
from xft.run_config.config import RunConfig
from xft.run_config.plan import TrainingPlan, make_plan
from xft.strategies import Strategy, StrategyConfig
from xft.templates import BoundTemplate
from xft.training.activation_budget import choose_checkpointed_layers
from xft.training.loop import TrainLoop
from xft.training.resume import adapt_to_world_size
from xft.training.rollout_loop import RolloutLoop
from xft.training.run_dir import add_file_handler
from xft.training.runner import Runner
from xft.types import ImageProcessor, Tokenizer
from xft.utils.memory import tune_glibc_malloc


@dataclass(frozen=True)
class TrainSetup:
    """Components of a run before its folder exists.

    Attributes:
        run_config: built config.
        config: config as plain data.
        model: model and tokenizer.
        template: bound chat template; ``None`` for raw text.
        data: prepared data.
        plan: batch composition and number of steps.
        eval_prompts: sample questions.
        strategy_config: device, precision and distribution.
    """

    run_config: RunConfig
    config: Mapping[str, Any]
    model: LoadedModel
    template: BoundTemplate | None
    data: PreparedData
    plan: TrainingPlan
    eval_prompts: list[EvalPrompt]
    strategy_config: StrategyConfig

    def create_strategy(self, work_dir: Path) -> Strategy:
        """Build the strategy, and wait for all ranks."""
        strategy = self.strategy_config.build(str(work_dir), self.run_config.seed)
        strategy.barrier()
        return strategy

    def build_runner(self, strategy: Strategy) -> tuple[Runner, TrainLoop, str]:
        """Build optimizer, objective, runner and loop.

        Returns:
            Runner, loop, and a note on activation checkpointing, which may be empty.
        """
        run_config, loaded, prepared, plan = self.run_config, self.model, self.data, self.plan
        ratio = run_config.adapter.loraplus_lr_ratio if run_config.adapter is not None else 1.0
        optimizer = build_optimizer(run_config.optimizer, loaded.model, ratio)
        lr_scheduler = run_config.lr_scheduler(optimizer, plan.num_steps)
        check_lr_scheduler(optimizer, lr_scheduler, plan.num_steps)
        collator = Collator.for_model(
            loaded.tokenizer, loaded.supports_packing, prepared.samples_per_example, loaded.processor
        )
        setup = ReferenceContext(
            loaded,
            strategy,
            lambda: chain(collator.iter_batches(prepared.train), collator.iter_batches(prepared.val)),
            run_config.model.trust_remote_code,
        )
        objective = as_objective(run_config.objective)
        if not strategy.params_are_sharded:
            objective = objective.bind_reference(setup)
        memory_note = ""
        if run_config.model.gradient_checkpointing == "auto":
            memory_note = choose_checkpointed_layers(
                loaded,
                strategy,
                prepared.train,
                plan,
                collator,
                self._rollout_tokens() if isinstance(run_config.objective, OnlineObjective) else None,
            )
        model = TrainingModel(loaded.model, objective)
        strategy.prepare(model, optimizer=optimizer, lr_scheduler=lr_scheduler, batching=plan.batching)
        if strategy.params_are_sharded:
            # Why: the sharded model can compute only after the strategy is prepared.
            model.objective = objective.bind_reference(setup)
        runner = Runner(
            strategy=strategy,
            config=self.config,
            hooks=run_config.hooks,
            tokenizer=loaded.tokenizer,
            template=self.template,
            eval_prompts=self.eval_prompts,
            val_samples=prepared.val,
            model_metadata=_model_metadata(run_config, loaded),
            model=model,
        )
        return runner, self._create_loop(runner, strategy, collator), memory_note

    def _rollout_tokens(self) -> int:
        """Return the largest number of tokens of a batch of completions on a rank."""
        batches, prompt = self.plan.batches, int(self.data.train.lengths.max())
        prompts = batches.micro_batch_size * batches.gradient_accumulation_steps
        return self.run_config.rollout.largest_batch(prompts, prompt)

    def _create_loop(self, runner: Runner, strategy: Strategy, collator: Collator) -> TrainLoop:
        """Create the loop of the objective; rewards are tried before."""
        run_config, samples = self.run_config, self.data.train
        arguments = (runner, strategy, samples, self.plan, run_config.training.max_grad_norm, collator)
        if not isinstance(run_config.objective, OnlineObjective):
            return TrainLoop(*arguments)
        assert self.template is not None
        run_config.rollout.check_environment(strategy.params_are_sharded)
        loop = RolloutLoop(*arguments)
        generator = TextGenerator(self.model.model, self.model.tokenizer, self.template)
        rewards = run_config.reward_set()
        rewards.check(samples.columns(0), samples.origin(0))
        loop.attach(
            RolloutCollector(run_config.rollout, rewards, run_config.objective, generator, run_config.seed)
        )
        return loop


def data_parallel_size(config: StrategyConfig, world_size: int) -> int:
    """Return the number of data-parallel ranks: ranks, or groups of ranks that share each batch.

    Raises:
        ConfigError: the world size is not a multiple of the group size.
    """
    size = config.sequence_parallel_size
    if size < 1 or world_size % size:
        raise ConfigError(
            key="strategy.sequence_parallel_size",
            got=size,
            expected=f"a divisor of the world size, which is {world_size}",
            fix="start more ranks with --nproc-per-node or torchrun",
        )
    return world_size // size


def load_model(
    run_config: RunConfig,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    strategy: StrategyConfig,
) -> LoadedModel:
    """Load the model, with the same weights on every rank, those of a new adapter included."""
    device = resolve_device(strategy.device)
    if device.type == "cpu":
        tune_glibc_malloc()
    seed_everything(run_config.seed)
    dtype = choose_dtype(run_config.model.dtype, device)
    is_quantized = run_config.quantization is not None
    with strategy.model_init_context(dtype, is_quantized, run_config.needs_full_weights):
        loaded = run_config.model.load(tokenizer, device, run_config.adapter, run_config.quantization)
    loaded.check_batches()
    strategy.check_model(loaded.model, loaded.processor is not None)
    if loaded.processor is not None:
        _check_vision(run_config, loaded.processor, strategy)
    if (size := strategy.sequence_parallel_size) > 1:
        check_sequence_parallel(loaded.base.config, loaded.split_problem, size)
    if is_reward_model(loaded.model):
        set_pad_token(loaded.model, tokenizer, template)
    return loaded


def _check_vision(run_config: RunConfig, processor: ImageProcessor, strategy: StrategyConfig) -> None:
    """Check that a strategy can train a vision-language model.

    Raises:
        ConfigError: ranks split sequences, or could wait for gradients of parts that see no image.
    """
    if (size := strategy.sequence_parallel_size) > 1:
        raise ConfigError(
            key="strategy.sequence_parallel_size",
            got=size,
            expected="1 for a vision-language model: ranks hold parts of a sequence, and an image may be in several",
        )
    is_paired = run_config.data.samples_per_example > 1
    if is_paired and processor.filler is not None and strategy.is_distributed:
        raise ConfigError(
            key="model.train",
            got=dict(run_config.model.train)
            if isinstance(run_config.model, VisionLanguageConfig)
            else None,
            expected="a frozen tower and projector for preference pairs on several ranks: a batch of pairs without "
            "images would give them no gradient",
        )


def plan_run(
    run_config: RunConfig,
    loaded: LoadedModel,
    prepared: PreparedData,
    world_size: int,
    resume_state: ResumeState | None,
) -> tuple[TrainingPlan, list[str]]:
    """Plan the run. Returns the plan, and summary lines about a resumed run and a changed world size."""
    training, pack_length = run_config.training, run_config.data.pack_length
    lines: list[str] = []
    if resume_state is not None:
        training, pack_length, changed = adapt_to_world_size(
            training, pack_length, resume_state.batching, world_size
        )
        lines = [f"resuming from {resume_state.folder}", *(f"note: {change}" for change in changed)]
    lines += length_warning(loaded.base.config, int(prepared.train.lengths.max()))
    packing = _packing(run_config, loaded)
    plan = make_plan(
        prepared.train,
        training,
        pack_length,
        packing,
        run_config.seed,
        world_size,
        prepared.samples_per_example,
        padded=not loaded.supports_packing,
        num_iterations=run_config.rollout.num_iterations
        if isinstance(run_config.objective, OnlineObjective)
        else 1,
    )
    return plan, lines


def _packing(run_config: RunConfig, loaded: LoadedModel) -> bool:
    """Return whether rows are packed.

    Raises:
        ConfigError: the config requests it, and the model cannot keep packed samples apart.
    """
    if run_config.data.packing is True and not loaded.supports_packing:
        raise ConfigError(
            key="data.packing",
            got=True,
            expected=f"'auto' or False: {loaded.packing_problem}",
        )
    return bool(run_config.data.packing) and loaded.supports_packing


def _model_metadata(run_config: RunConfig, loaded: LoadedModel) -> ModelMetadata:
    model = run_config.model
    weights = str(loaded.base.dtype).removeprefix("torch.")
    quantization = run_config.quantization
    bits = quantization.bits if quantization is not None else None
    double = quantization.double_quant if isinstance(quantization, NF4) else True
    return ModelMetadata(
        str(loaded.base.name_or_path),
        weights,
        bits,
        double,
        model.attn_implementation,
        rope_parameters=model.rope_parameters,
        system=run_config.data.system_text,
    )


def open_loggers(setup: TrainSetup, work_dir: Path, resume_step: int) -> list[Logger]:
    """Open ``train.log`` and the loggers of the config."""
    add_file_handler(work_dir)
    return [
        make(work_dir=work_dir, config=setup.config, resume_step=resume_step)
        for make in setup.run_config.loggers.values()
    ]
