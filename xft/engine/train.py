"""The composition root: a config becomes a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from xft import console
from xft.config import build, check, load_config, parse_overrides
from xft.data import Prepared
from xft.data.collate import every_batch
from xft.engine.banner import banner
from xft.engine.checkpoint import read_state
from xft.engine.folders import step_of
from xft.engine.hooks.verify import expect_live, verify_final
from xft.engine.loop import TrainLoop
from xft.engine.lost import lost_peers
from xft.engine.optimizers import parameter_groups
from xft.engine.plan import TrainingPlan, make_plan
from xft.engine.recipe import Recipe
from xft.engine.records import note_of, open_loggers, write_records
from xft.engine.resuming import refit, stop_reason
from xft.engine.runner import Runner
from xft.engine.strategies import (
    DDP,
    Portions,
    SingleDevice,
    agree_on,
    choose_device,
    read_launcher,
    read_option,
    seed_everything,
    start_process_group,
)
from xft.engine.strategies.launch import TIMEOUT
from xft.engine.workdir import choose_work_dir, claim
from xft.errors import ConfigError
from xft.evaluation import read_questions
from xft.models import LoadedModel, TrainingModel
from xft.models.load import choose_dtype
from xft.models.reference import Setup
from xft.objectives import prepare_objective
from xft.templates import BoundTemplate
from xft.types import Tokenizer


@dataclass(frozen=True)
class TrainOptions:
    """What the command line says of a run.

    Attributes:
        config: the config file.
        work_dir: the run folder; see ``choose_work_dir``.
        overrides: ``KEY=VALUE`` texts.
        resume: ``None`` starts anew; an empty text goes on from the newest good checkpoint of
            ``work_dir``; ``auto`` does that where there is a checkpoint, and else starts, in the
            same folder; anything else is a run folder or a checkpoint.
        seed: in place of the config's.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        deepspeed: a name of ``xft.engine.strategies.zero.NAMES``, or a JSON file.
    """

    config: str
    work_dir: str | None = None
    overrides: list[str] = field(default_factory=list)
    resume: str | None = None
    seed: int | None = None
    launcher: str = "none"
    deepspeed: str | None = None


def train(options: TrainOptions) -> Path:
    """Train as a config says.

    Everything that can be wrong with config, data and model is found before the run folder is
    made.

    Returns:
        The run folder.

    Raises:
        XftError: something that the user can mend.
    """
    with lost_peers():
        return _train(options)


def _train(options: TrainOptions) -> Path:
    config = _read_config(options)
    recipe = build(config, Recipe)
    rank, world_size = read_launcher(options.launcher)
    if rank != 0:
        console.setup(quiet=True)
    kind, keywords = _strategy(recipe, options.launcher)
    kind.check(keywords)
    work_dir, resume = choose_work_dir(
        options.config, options.work_dir or recipe.work_dir, options.resume, rank
    )
    recipe.data.locate()
    questions = read_questions(recipe.questions)
    tokenizer = recipe.model.load_tokenizer()
    template = recipe.template.bind(tokenizer) if recipe.data.uses_template or questions else None
    prepared = recipe.data.prepare(tokenizer, template)
    if kind.distributed:
        # Not earlier: however long the data takes, no rank waits for another in vain.
        start_process_group(options.launcher, keywords.get("timeout_minutes", TIMEOUT))
        work_dir, resume = agree_on((work_dir, resume))
    loaded = _load(recipe, tokenizer, kind, keywords, options.launcher)
    plan, lines = _plan(recipe, loaded, prepared, world_size, resume)
    if resume is not None:
        _refuse_finished(resume, plan, recipe)
    with claim(work_dir, rank, options.resume is not None, resume):
        strategy = kind(work_dir=str(work_dir), seed=recipe.seed, **keywords)
        strategy.barrier()
        runner, loop = _assemble(recipe, config, strategy, loaded, template, prepared, plan, questions)
        if resume is not None:
            runner.go_on_from(resume, loop)
        if rank == 0:
            write_records(work_dir, config, prepared, plan)
            runner.loggers = open_loggers(recipe, config, work_dir, loop.step)
            if resume is not None and resume.parent.parent.samefile(work_dir):
                runner.rewind_loggers()
        for line in [
            *banner(recipe, loaded, prepared, plan, template, work_dir),
            *strategy.describe(),
            *lines,
        ]:
            console.say(line)
        runner.train(loop)
        _finish(runner, strategy)
    strategy.close()
    return work_dir


def _read_config(options: TrainOptions) -> dict[str, Any]:
    """The config, with what the command line says in its place, every mistake of it found."""
    overrides = parse_overrides(options.overrides)
    if options.seed is not None:
        overrides["seed"] = options.seed
    config = load_config(options.config, overrides)
    if options.deepspeed is not None:
        said = config.get("strategy")
        kept = ("device", "autocast", "timeout_minutes")
        before = {key: said[key] for key in kept if key in said} if isinstance(said, dict) else {}
        config["strategy"] = {"type": "deepspeed", **before, **read_option(options.deepspeed)}
    check(config, Recipe, options.config)
    return config


def _assemble(
    recipe: Recipe,
    config: Mapping[str, Any],
    strategy: SingleDevice,
    loaded: LoadedModel,
    template: BoundTemplate | None,
    prepared: Prepared,
    plan: TrainingPlan,
    questions: list[Any],
) -> tuple[Runner, TrainLoop]:
    optimizer = recipe.optimizer(parameter_groups(loaded.model))
    schedule = recipe.schedule(optimizer, plan.num_steps)
    pad = None if loaded.packs else loaded.tokenizer.pad_token_id or 0
    setup = Setup(
        loaded,
        strategy,
        lambda: chain(*(every_batch(each, prepared.unit, pad) for each in (prepared.train, prepared.val))),
        recipe.model.trust_remote_code,
    )
    model = TrainingModel(loaded.model, prepare_objective(recipe.objective, setup))
    batches = plan.batches
    portions = Portions(batches.batch_size, batches.accumulation, plan.num_steps, recipe.training.clip)
    strategy.prepare(model, optimizer=optimizer, schedule=schedule, portions=portions)
    runner = Runner(
        strategy=strategy,
        config=config,
        hooks=recipe.hooks,
        tokenizer=loaded.tokenizer,
        template=template,
        questions=questions,
        val_samples=prepared.val,
        note=note_of(recipe, loaded),
        model=model,
    )
    loop = TrainLoop(runner, strategy, prepared.train, plan, recipe.training.clip, pad, prepared.unit)
    return runner, loop


def _finish(runner: Runner, strategy: SingleDevice) -> None:
    """Write the final folder, and see that it gives what the live model gives."""
    together = strategy.together
    if strategy.rank == 0 or together:
        expected = expect_live(runner)
        copied = runner.copy_weights() if together else None
    if strategy.rank == 0:
        final, comparison = runner.write_final(
            lambda folder: verify_final(runner, folder, expected), copied
        )
        console.say("")
        console.say(f"saved {_short(final)} (reloaded and compared with the live model: {comparison})")
        console.say(f"talk to it:   python tools/chat.py {_short(runner.work_folder)}")
        console.say(f"export it:    python tools/convert.py {_short(runner.work_folder)} OUT --merge")
    strategy.barrier()


def _strategy(recipe: Recipe, launcher: str) -> tuple[type[SingleDevice], dict[str, Any]]:
    """The class of the strategy, and what the config and the launcher say it is made with."""
    make: Any = recipe.strategy
    kind: type[SingleDevice] = getattr(make, "func", make)
    keywords: dict[str, Any] = dict(getattr(make, "keywords", {}))
    if launcher != "none" and kind is SingleDevice:
        kind = DDP
    if kind.distributed:
        keywords["launcher"] = launcher
    return kind, keywords


def _load(
    recipe: Recipe, tokenizer: Tokenizer, kind: type[SingleDevice], keywords: dict[str, Any], launcher: str
) -> LoadedModel:
    """Load the model, with the same weights on every rank, those of a new adapter included."""
    device = choose_device(keywords.get("device", "auto"))
    seed_everything(recipe.seed)
    dtype = choose_dtype(recipe.model.dtype, device)
    with kind.loading(dtype, recipe.model.quantization is not None, launcher, keywords):
        return recipe.model.load(tokenizer, device)


def _plan(
    recipe: Recipe, loaded: LoadedModel, prepared: Prepared, world_size: int, resume: Path | None
) -> tuple[TrainingPlan, list[str]]:
    """The plan of the run, and what to say of it where it goes on with another number of ranks."""
    training, pack_length = recipe.training, recipe.data.pack_length
    lines: list[str] = []
    if resume is not None:
        portions = read_state(resume).get("portions", {"world_size": world_size, "window": None})
        training, pack_length, changed = refit(training, pack_length, portions, world_size)
        lines = [f"resuming from {resume}", *(f"note: {each}" for each in changed)]
    packing = _packing(recipe, loaded)
    plan = make_plan(prepared.train, training, pack_length, packing, recipe.seed, world_size, prepared.unit)
    return plan, lines


def _refuse_finished(resume: Path, plan: TrainingPlan, recipe: Recipe) -> None:
    """A run that was killed between its last step and its end has no ``final`` folder yet: it goes
    on without a further step.

    Raises:
        ConfigError: the run is done.
    """
    if not (resume.parent.parent / "final").exists():
        return
    step = step_of(resume)
    if step >= plan.num_steps:
        raise ConfigError(
            f"--resume: the run is at step {step} of {plan.num_steps} and done; raise training.epochs"
        )
    if reason := stop_reason(read_state(resume), recipe.hooks.values()):
        raise ConfigError(
            f"--resume: the run is done: it ended at step {step} of {plan.num_steps}, as {reason}; raise "
            "hooks.early_stopping.patience, or take the hook out"
        )


def _packing(recipe: Recipe, loaded: LoadedModel) -> bool:
    """Whether rows are packed.

    Raises:
        ConfigError: the config wants it, and the model cannot keep packed samples apart.
    """
    if recipe.data.packing and not loaded.packs:
        raise ConfigError(
            f"data.packing: {type(loaded.base).__name__} cannot keep packed samples from seeing each other; "
            "set data.packing=False"
        )
    return recipe.data.packing


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
