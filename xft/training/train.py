"""The composition root: a config becomes a run."""

import shlex
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xft.checkpoint.resume_state import ResumeState, read_resume_state
from xft.config import build, check, load_config, parse_overrides
from xft.config.overrides import IMPLICIT_DEFAULTS
from xft.distributed import broadcast_object, read_launcher, resolve_device, start_process_group
from xft.distributed.peer_failure import report_peer_failure
from xft.errors import ConfigError
from xft.evaluation import read_eval_prompts
from xft.models.reward_head import is_reward_model
from xft.reporting import REPORT
from xft.reporting.run_summary import format_run_summary, labeled
from xft.run_config.config import RunConfig
from xft.run_config.plan import TrainingPlan
from xft.strategies import SingleDevice, config_for_launcher, parse_cli_option
from xft.training.dry_run.run import DryRun, temporary_run_dir
from xft.training.hooks.verify import expect_live, verify_final
from xft.training.resume import stop_reason
from xft.training.run_dir import choose_work_dir, claim
from xft.training.run_metadata import report_of, write_environment, write_records
from xft.training.runner import Runner
from xft.training.setup import (
    TrainSetup,
    data_parallel_size,
    load_model,
    open_loggers,
    plan_run,
)
from xft.utils import console


@dataclass(frozen=True)
class TrainOptions:
    """What the command line says of a run.

    Attributes:
        config: the config file.
        work_dir: the run folder; see ``choose_work_dir``.
        overrides: ``KEY=VALUE`` texts.
        safe_config: run nothing of the config (see ``load_config``).
        resume: ``None`` starts anew; an empty text goes on from the newest good checkpoint of
            ``work_dir``; ``auto`` does that where there is a checkpoint, and else starts, in the
            same folder; anything else is a run folder or a checkpoint.
        seed: in place of the config's.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        deepspeed: a name in ``xft.strategies.deepspeed.config.PRESETS``, or a JSON file.
        sequence_parallel_size: how many ranks compute each batch together; ``None`` is what the config says.
        dry_run: estimate memory, disk and time of the run, and write nothing.
    """

    config: str
    work_dir: str | None = None
    overrides: list[str] = field(default_factory=list)
    safe_config: bool = False
    resume: str | None = None
    seed: int | None = None
    launcher: str = "none"
    deepspeed: str | None = None
    sequence_parallel_size: int | None = None
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
    with report_peer_failure():
        return _train(options)


def _train(options: TrainOptions) -> Path:
    config = _read_config(options)
    run_config = build(config, RunConfig)
    rank, world_size = read_launcher(options.launcher)
    if rank != 0:
        console.setup(quiet=True)
    strategy_config = config_for_launcher(run_config.strategy, options.launcher)
    strategy_config.validate(run_config.optimizer)
    groups = data_parallel_size(strategy_config, world_size)
    work_dir, resume = choose_work_dir(
        options.config, options.work_dir or run_config.work_dir, options.resume, rank
    )
    run_config.data.check_sources()
    eval_prompts = read_eval_prompts(run_config.eval_prompts)
    tokenizer = run_config.model.load_tokenizer()
    template = (
        run_config.template.bind(tokenizer) if run_config.data.uses_template or eval_prompts else None
    )
    prepared = run_config.data.prepare(tokenizer, template)
    if strategy_config.is_distributed:
        # Why not earlier: preparing the data may take longer than the timeout of the process group.
        start_process_group(options.launcher, strategy_config.timeout_minutes)
        work_dir, resume = broadcast_object((work_dir, resume))
    resume_state = read_resume_state(resume) if resume is not None else None
    dry_run = DryRun(run_config, resolve_device(strategy_config.device)) if options.dry_run else None
    with dry_run.profiler.phase("model", run_config.model.path) if dry_run is not None else nullcontext():
        loaded = load_model(run_config, tokenizer, template, strategy_config)
    plan, lines = plan_run(run_config, loaded, prepared, groups, resume_state)
    setup = TrainSetup(run_config, config, loaded, template, prepared, plan, eval_prompts, strategy_config)
    if resume_state is not None:
        try:
            _reject_finished_run(resume_state, plan, run_config)
        except ConfigError as done:
            if options.resume != "auto":
                raise
            # A scheduler that restarts the command until it succeeds must see that it has.
            console.info(str(done))
            return work_dir
    if dry_run is not None:
        _dry_run(dry_run, setup, work_dir, rank)
        return work_dir
    with claim(work_dir, rank, options.resume is not None, resume_state):
        strategy = setup.create_strategy(work_dir)
        runner, loop, memory = setup.build_runner(strategy)
        if resume_state is not None:
            runner.resume_from(resume_state, loop)
        if rank == 0:
            write_records(work_dir, config, prepared, plan)
            write_environment(work_dir, plan, strategy)
            runner.loggers = open_loggers(setup, work_dir, loop.step)
            if resume_state is not None and resume_state.folder.parent.parent.samefile(work_dir):
                runner.rewind_loggers()
        for line in [
            *format_run_summary(run_config, loaded, prepared, plan, template, work_dir),
            *strategy.describe(),
            *(labeled("memory", memory) if memory else []),
            *lines,
        ]:
            console.info(line)
        runner.train(loop)
        _finish(runner, strategy)
    strategy.close()
    return work_dir


def _read_config(options: TrainOptions) -> dict[str, Any]:
    """The config, with what the command line says in its place, every mistake of it found."""
    if options.dry_run and options.resume is not None:
        raise ConfigError("--dry-run: cannot be combined with --resume; leave out --resume")
    overrides = parse_overrides(options.overrides)
    if options.seed is not None:
        overrides["seed"] = options.seed
    config = load_config(options.config, overrides, options.safe_config)
    said = config.get("strategy", IMPLICIT_DEFAULTS["strategy"])
    strategy = dict(said) if isinstance(said, dict) else {"type": said}
    if options.deepspeed is not None:
        kept = ("device", "mixed_precision", "timeout_minutes", "sequence_parallel_size")
        before = {key: strategy[key] for key in kept if key in strategy}
        config["strategy"] = strategy = {
            "type": "deepspeed",
            **before,
            **parse_cli_option(options.deepspeed),
        }
    if options.sequence_parallel_size is not None:
        # One device shares nothing out; ranks do so in the way that a launcher chooses for them anyway.
        shared = {"type": "ddp"} if strategy.get("type") == "single_device" else {}
        config["strategy"] = {
            **strategy,
            **shared,
            "sequence_parallel_size": options.sequence_parallel_size,
        }
    check(config, RunConfig, options.config)
    return config


def _dry_run(dry_run: DryRun, setup: TrainSetup, work_dir: Path, rank: int) -> None:
    """Set the run up in a temporary folder, and measure its phases."""
    dry_run.plan = setup.plan
    with temporary_run_dir(work_dir, rank) as folder:
        shared = broadcast_object(folder) if setup.strategy_config.is_distributed else folder
        strategy = setup.create_strategy(shared)
        with dry_run.profiler.phase("setup", "reference of the objective, optimizer"):
            runner, loop, memory = setup.build_runner(strategy)
        for line in [
            *format_run_summary(
                setup.run_config, setup.model, setup.data, setup.plan, setup.template, work_dir
            ),
            *(labeled("memory", memory) if memory else []),
        ]:
            console.info(line)
        dry_run.run(runner, loop, setup.data)
    strategy.close()


def _finish(runner: Runner, strategy: SingleDevice) -> None:
    """Write the final folder, and see that it gives what the live model gives."""
    together = strategy.params_are_sharded
    if strategy.rank == 0 or together:
        expected = expect_live(runner)
        copied = runner.checkpointer.copy_weights() if together else None
    if strategy.rank == 0:
        final, comparison = runner.write_final(
            lambda folder: verify_final(runner, folder, expected), copied
        )
        console.info("")
        console.info(f"saved {_short(final)} (reloaded and compared with the live model: {comparison})")
        if (page := report_of(runner.run_dir)) is not None:
            console.info(f"look at it:   {_short(page)}")
        for line in _what_next(runner):
            console.info(line)
    strategy.barrier()


def _what_next(runner: Runner) -> list[str]:
    run, model = shlex.quote(_short(runner.run_dir)), runner.unwrapped_model
    merge = " --merge" if hasattr(model, "peft_config") else ""
    export = f"export it:    python tools/convert.py {run} OUT{merge}"
    if is_reward_model(model):
        return [f"try it:       python tools/score.py {run} ROWS.jsonl", export]
    return [f"talk to it:   python tools/chat.py {run}", export]


def _reject_finished_run(state: ResumeState, plan: TrainingPlan, run_config: RunConfig) -> None:
    """A run that was killed between its last step and its end has no ``final`` folder yet, or no
    report: it goes on without a further step.

    Raises:
        ConfigError: the run is done.
    """
    run = state.folder.parent.parent
    if not ((run / "final").exists() and (run / REPORT).exists()):
        return
    if state.step >= plan.num_steps:
        raise ConfigError(
            f"--resume: the run is at step {state.step} of {plan.num_steps} and done; raise training.epochs"
        )
    if reason := stop_reason(state, run_config.hooks.values()):
        raise ConfigError(
            f"--resume: the run is done: it ended at step {state.step} of {plan.num_steps}, as {reason}; raise "
            "hooks.early_stopping.patience, or take the hook out"
        )


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
