"""What a run is made of, and how it is put together."""

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
from xft.models import NF4, LoadedModel, ModelMetadata, TrainingModel
from xft.models.loading import choose_dtype
from xft.models.reference import ReferenceContext
from xft.models.reward_head import is_reward_model, set_pad_token
from xft.objectives import as_objective
from xft.optim import build_optimizer, check_lr_scheduler
from xft.run_config.config import Recipe
from xft.run_config.plan import TrainingPlan, make_plan
from xft.strategies import SingleDevice, StrategyConfig
from xft.templates import BoundTemplate
from xft.training.activation_budget import fit_activations
from xft.training.loop import TrainLoop
from xft.training.resume import adapt_to_world_size
from xft.training.run_dir import log_to
from xft.training.runner import Runner
from xft.types import Tokenizer
from xft.utils.memory import tune_glibc_malloc


@dataclass(frozen=True)
class Parts:
    """What a run is made of, before it has a folder.

    Attributes:
        recipe: what the config declares, built.
        config: the config, as plain data.
        loaded: model and tokenizer.
        template: the bound chat template; ``None`` for raw text.
        prepared: the data.
        plan: in which portions it is trained on.
        eval_prompts: the sample questions.
        strategy_config: device, precision and distribution.
    """

    recipe: Recipe
    config: Mapping[str, Any]
    loaded: LoadedModel
    template: BoundTemplate | None
    prepared: PreparedData
    plan: TrainingPlan
    eval_prompts: list[EvalPrompt]
    strategy_config: StrategyConfig

    def start(self, work_dir: Path) -> SingleDevice:
        """Build the strategy, and wait for all ranks."""
        strategy = self.strategy_config.build(str(work_dir), self.recipe.seed)
        strategy.barrier()
        return strategy

    def assemble(self, strategy: SingleDevice) -> tuple[Runner, TrainLoop, str]:
        """Put optimizer, objective, runner and loop together.

        Returns:
            Both, and what is to be said of the memory, if anything.
        """
        recipe, loaded, prepared, plan = self.recipe, self.loaded, self.prepared, self.plan
        ratio = recipe.adapter.loraplus_lr_ratio if recipe.adapter is not None else 1.0
        optimizer = build_optimizer(recipe.optimizer, loaded.model, ratio)
        lr_scheduler = recipe.lr_scheduler(optimizer, plan.num_steps)
        check_lr_scheduler(optimizer, lr_scheduler, plan.num_steps)
        collator = Collator.for_model(
            loaded.tokenizer, loaded.supports_packing, prepared.samples_per_example
        )
        setup = ReferenceContext(
            loaded,
            strategy,
            lambda: chain(collator.iter_batches(prepared.train), collator.iter_batches(prepared.val)),
            recipe.model.trust_remote_code,
        )
        objective = as_objective(recipe.objective)
        if not strategy.params_are_sharded:
            objective = objective.bind_reference(setup)
        said = ""
        if recipe.model.gradient_checkpointing == "auto":
            said = fit_activations(loaded, strategy, prepared.train, plan, collator)
        model = TrainingModel(loaded.model, objective)
        strategy.prepare(model, optimizer=optimizer, lr_scheduler=lr_scheduler, batching=plan.batching)
        if strategy.params_are_sharded:
            # Until now no rank could have been asked anything: the model is in shares.
            model.objective = objective.bind_reference(setup)
        runner = Runner(
            strategy=strategy,
            config=self.config,
            hooks=recipe.hooks,
            tokenizer=loaded.tokenizer,
            template=self.template,
            eval_prompts=self.eval_prompts,
            val_samples=prepared.val,
            model_metadata=_model_metadata(recipe, loaded),
            model=model,
        )
        loop = TrainLoop(runner, strategy, prepared.train, plan, recipe.training.max_grad_norm, collator)
        return runner, loop, said


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
    recipe: Recipe,
    tokenizer: Tokenizer,
    template: BoundTemplate | None,
    strategy: StrategyConfig,
) -> LoadedModel:
    """Load the model, with the same weights on every rank, those of a new adapter included."""
    device = resolve_device(strategy.device)
    if device.type == "cpu":
        tune_glibc_malloc()
    seed_everything(recipe.seed)
    dtype = choose_dtype(recipe.model.dtype, device)
    with strategy.model_init_context(dtype, recipe.quantization is not None):
        loaded = recipe.model.load(tokenizer, device, recipe.adapter, recipe.quantization)
    if (size := strategy.sequence_parallel_size) > 1:
        check_sequence_parallel(loaded.base.config, loaded.supports_packing, size)
    if is_reward_model(loaded.model):
        set_pad_token(loaded.model, tokenizer, template)
    return loaded


def plan_run(
    recipe: Recipe,
    loaded: LoadedModel,
    prepared: PreparedData,
    world_size: int,
    resume_state: ResumeState | None,
) -> tuple[TrainingPlan, list[str]]:
    """The plan of the run, and what to say of it where it goes on with another number of ranks."""
    training, pack_length = recipe.training, recipe.data.pack_length
    lines: list[str] = []
    if resume_state is not None:
        training, pack_length, changed = adapt_to_world_size(
            training, pack_length, resume_state.batching, world_size
        )
        lines = [f"resuming from {resume_state.folder}", *(f"note: {change}" for change in changed)]
    packing = _packing(recipe, loaded)
    plan = make_plan(
        prepared.train,
        training,
        pack_length,
        packing,
        recipe.seed,
        world_size,
        prepared.samples_per_example,
        padded=not loaded.supports_packing,
    )
    return plan, lines


def _packing(recipe: Recipe, loaded: LoadedModel) -> bool:
    """Whether rows are packed.

    Raises:
        ConfigError: the config wants it, and the model cannot keep packed samples apart.
    """
    if recipe.data.packing and not loaded.supports_packing:
        raise ConfigError(
            f"data.packing: {type(loaded.base).__name__} cannot keep packed samples from seeing each other; "
            "set data.packing=False"
        )
    return recipe.data.packing


def _model_metadata(recipe: Recipe, loaded: LoadedModel) -> ModelMetadata:
    model = recipe.model
    weights = str(loaded.base.dtype).removeprefix("torch.")
    quantization = recipe.quantization
    bits = quantization.bits if quantization is not None else None
    where = Path(model.path).expanduser()
    base = str(where.absolute()) if where.is_dir() else model.path
    double = quantization.double_quant if isinstance(quantization, NF4) else True
    return ModelMetadata(base, weights, bits, double, model.attn_implementation)


def open_loggers(parts: Parts, work_dir: Path, resume_step: int) -> list[Logger]:
    """Open ``train.log`` and the loggers of the config."""
    log_to(work_dir)
    return [
        make(work_dir=work_dir, config=parts.config, resume_step=resume_step)
        for make in parts.recipe.loggers.values()
    ]
