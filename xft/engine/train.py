"""The composition root: a config becomes a run."""

from collections.abc import Mapping
from contextlib import nullcontext
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
from xft.engine.hooks.verify import verify_final
from xft.engine.loggers import Logger
from xft.engine.loop import TrainLoop
from xft.engine.optimizers import parameter_groups
from xft.engine.plan import TrainingPlan, make_plan
from xft.engine.recipe import Recipe
from xft.engine.records import report_of, write_environment, write_records
from xft.engine.rehearsal import Rehearsal, scratch
from xft.engine.resuming import stop_reason
from xft.engine.runner import Runner
from xft.engine.strategies import DDP, SingleDevice, agree_on, choose_device, read_launcher, seed_everything
from xft.engine.workdir import choose_work_dir, claim, log_to
from xft.errors import ConfigError
from xft.evaluation import read_questions
from xft.models import NF4, LoadedModel, Note, TrainingModel
from xft.models.reference import Setup
from xft.objectives import prepare_objective
from xft.templates import BoundTemplate


@dataclass(frozen=True)
class TrainOptions:
    """What the command line says of a run.

    Attributes:
        config: the config file.
        work_dir: the run folder; see ``choose_work_dir``.
        overrides: ``KEY=VALUE`` texts.
        data_only: run nothing of the config (see ``load_config``).
        resume: ``None`` starts anew; an empty text goes on from the newest good checkpoint of
            ``work_dir``; ``auto`` does that where there is a checkpoint, and else starts, in the
            same folder; anything else is a run folder or a checkpoint.
        seed: in place of the config's.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        dry_run: rehearse the run, say what it will take, and leave nothing behind.
    """

    config: str
    work_dir: str | None = None
    overrides: list[str] = field(default_factory=list)
    data_only: bool = False
    resume: str | None = None
    seed: int | None = None
    launcher: str = "none"
    dry_run: bool = False


def train(options: TrainOptions) -> Path:
    """Train as a config says.

    Everything that can be wrong with config, data and model is found before the run folder is
    made.

    Returns:
        The run folder.

    Raises:
        XftError: something that the user can mend.
    """
    config = _read_config(options)
    recipe = build(config, Recipe)
    rank, world_size = read_launcher(options.launcher)
    if rank != 0:
        console.setup(quiet=True)
    work_dir, resume = choose_work_dir(
        options.config, options.work_dir or recipe.work_dir, options.resume, rank
    )
    recipe.data.locate()
    questions = read_questions(recipe.questions)
    tokenizer = recipe.model.load_tokenizer()
    template = recipe.template.bind(tokenizer) if recipe.data.uses_template or questions else None
    prepared = recipe.data.prepare(tokenizer, template)
    seed_everything(recipe.seed)
    device = choose_device(_partial_keyword(recipe.strategy, "device", "auto"))
    rehearsal = Rehearsal(recipe, device) if options.dry_run else None
    with rehearsal.part("model", recipe.model.path) if rehearsal is not None else nullcontext():
        loaded = recipe.model.load(tokenizer, device)
    packing = _packing(recipe, loaded)
    plan = make_plan(
        prepared.train,
        recipe.training,
        recipe.data.pack_length,
        packing,
        recipe.seed,
        world_size,
        prepared.unit,
    )
    if options.launcher != "none":
        minutes = getattr(recipe.strategy, "keywords", {}).get("timeout_minutes", 30)
        work_dir, resume = agree_on((work_dir, resume), options.launcher, minutes)
    if resume is not None:
        _refuse_finished(resume, plan, recipe)
    if rehearsal is not None:
        parts = (recipe, config, loaded, template, prepared, plan, questions)
        _rehearse(rehearsal, options.launcher, work_dir, rank, parts)
        return work_dir
    with claim(work_dir, rank, options.resume is not None, resume):
        strategy = _start(recipe, options.launcher, work_dir)
        strategy.barrier()
        runner, loop = _assemble(recipe, config, strategy, loaded, template, prepared, plan, questions)
        if resume is not None:
            runner.go_on_from(resume, loop)
        if rank == 0:
            write_records(work_dir, config, prepared, plan)
            write_environment(work_dir, plan, strategy.device)
            runner.loggers = _open_loggers(recipe, config, work_dir, loop.step)
            if resume is not None and resume.parent.parent.samefile(work_dir):
                runner.rewind_loggers()
        for line in banner(recipe, loaded, prepared, plan, template, work_dir):
            console.say(line)
        if resume is not None:
            console.say(f"resuming from {resume}")
        runner.train(loop)
        _finish(runner, strategy)
    strategy.close()
    return work_dir


def _read_config(options: TrainOptions) -> dict[str, Any]:
    """The config, with what the command line says in its place, every mistake of it found."""
    if options.dry_run and options.resume is not None:
        raise ConfigError("--dry-run: a run is rehearsed before it begins; leave out --resume")
    overrides = parse_overrides(options.overrides)
    if options.seed is not None:
        overrides["seed"] = options.seed
    config = load_config(options.config, overrides, options.data_only)
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
    strategy.prepare(model, optimizer=optimizer, schedule=schedule)
    runner = Runner(
        strategy=strategy,
        config=config,
        hooks=recipe.hooks,
        tokenizer=loaded.tokenizer,
        template=template,
        questions=questions,
        val_samples=prepared.val,
        note=_note(recipe, loaded),
        model=model,
    )
    loop = TrainLoop(runner, strategy, prepared.train, plan, recipe.training.clip, pad, prepared.unit)
    return runner, loop


def _rehearse(rehearsal: Rehearsal, launcher: str, work_dir: Path, rank: int, parts: Any) -> None:
    """Put together what a run is made of, in a folder that is gone afterwards, and rehearse it."""
    recipe, config, loaded, template, prepared, plan, questions = parts
    rehearsal.plan = plan
    with scratch(work_dir, rank) as own:
        folder = agree_on(own, launcher, 30) if launcher != "none" else own
        strategy = _start(recipe, launcher, folder)
        strategy.barrier()
        with rehearsal.part("start", "the objective's reference, the optimizer"):
            runner, loop = _assemble(recipe, config, strategy, loaded, template, prepared, plan, questions)
        for line in banner(recipe, loaded, prepared, plan, template, work_dir):
            console.say(line)
        rehearsal.perform(runner, loop, prepared)
    strategy.close()


def _finish(runner: Runner, strategy: SingleDevice) -> None:
    """Write the final folder, and see that it gives what the live model gives."""
    if strategy.rank == 0:
        final, comparison = runner.write_final(lambda folder: verify_final(runner, folder))
        console.say("")
        console.say(f"saved {_short(final)} (reloaded and compared with the live model: {comparison})")
        if (page := report_of(runner.work_folder)) is not None:
            console.say(f"look at it:   {_short(page)}")
        console.say(f"talk to it:   python tools/chat.py {_short(runner.work_folder)}")
        console.say(f"export it:    python tools/convert.py {_short(runner.work_folder)} OUT --merge")
    strategy.barrier()


def _start(recipe: Recipe, launcher: str, work_dir: Path) -> SingleDevice:
    make = recipe.strategy
    kind = getattr(make, "func", make)
    if launcher != "none" and kind is SingleDevice:
        kept: dict[str, Any] = getattr(make, "keywords", {})
        return DDP(work_dir=str(work_dir), seed=recipe.seed, launcher=launcher, **kept)
    strategy: SingleDevice = make(work_dir=str(work_dir), seed=recipe.seed)
    return strategy


def _partial_keyword(make: Any, name: str, default: str) -> str:
    return str(getattr(make, "keywords", {}).get(name, default))


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


def _note(recipe: Recipe, loaded: LoadedModel) -> Note:
    model = recipe.model
    weights = str(loaded.base.dtype).removeprefix("torch.")
    bits = model.quantization.bits if model.quantization is not None else None
    where = Path(model.path).expanduser()
    base = str(where.absolute()) if where.is_dir() else model.path
    double = model.quantization.double if isinstance(model.quantization, NF4) else True
    return Note(base, weights, bits, double, model.attention)


def _open_loggers(
    recipe: Recipe, config: Mapping[str, Any], work_dir: Path, resume_step: int
) -> list[Logger]:
    """Open ``train.log`` and the loggers of the config."""
    log_to(work_dir)
    return [
        make(work_dir=work_dir, config=config, resume_step=resume_step) for make in recipe.loggers.values()
    ]


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
