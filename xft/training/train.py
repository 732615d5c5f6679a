"""Composition root: build a run from a config and train."""

import os
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xft.checkpoint.resume_state import ResumeState, read_resume_state
from xft.config import build, check, load_config, parse_overrides
from xft.distributed import broadcast_object, read_launcher, resolve_device, start_process_group
from xft.distributed.peer_failure import report_peer_failure
from xft.errors import ConfigError
from xft.evaluation import read_eval_prompts
from xft.evaluation.prompts import check_images
from xft.evaluation.val_questions import val_questions
from xft.reporting import REPORT
from xft.reporting.data_warnings import data_warnings
from xft.reporting.run_summary import format_run_summary, labeled
from xft.run_config.config import RunConfig
from xft.run_config.plan import TrainingPlan
from xft.run_config.strategy_options import StrategyOptions
from xft.strategies import Strategy, config_for_launcher
from xft.training.dry_run.run import DryRun, temporary_run_dir
from xft.training.hooks.early_stopping import stop_reason
from xft.training.hooks.verify import expect_live, verify_final
from xft.training.resolved_values import resolved_values
from xft.training.resume import check_resumable
from xft.training.run_dir import choose_work_dir, lock_run_dir
from xft.training.run_metadata import write_end, write_environment, write_records, write_run_report
from xft.training.runner import Runner
from xft.training.setup import (
    TrainSetup,
    data_parallel_size,
    load_model,
    open_loggers,
    plan_run,
)
from xft.training.verdict import print_verdict
from xft.utils import console
from xft.utils.command_line import command, short_path
from xft.utils.paths import VAL_ROWS


@dataclass(frozen=True)
class TrainOptions:
    """Options of ``xft train``.

    Attributes:
        config: the config file.
        work_dir: the run folder; see ``choose_work_dir``.
        overrides: ``KEY=VALUE`` texts.
        safe_config: parse the config without executing it (see ``load_config``).
        resume: ``None`` starts from scratch; an empty text resumes from the newest valid checkpoint of
            ``work_dir``; ``auto`` resumes if there is a checkpoint, and otherwise starts in the same folder;
            any other value is a run folder or a checkpoint.
        seed: overrides that of the config.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        fsdp: shard with FSDP2.
        deepspeed: a name in ``xft.run_config.strategy_options.PRESETS``, or a JSON file.
        sequence_parallel_size: number of ranks that share each batch; ``None`` uses that of the config.
        dry_run: estimate memory, disk and time of the run, and write nothing.
        is_temporary_config: whether the config was written for this command, and is removed after it.
    """

    config: str
    work_dir: str | None = None
    overrides: list[str] = field(default_factory=list)
    safe_config: bool = False
    resume: str | None = None
    seed: int | None = None
    launcher: str = "none"
    fsdp: bool = False
    deepspeed: str | None = None
    sequence_parallel_size: int | None = None
    dry_run: bool = False
    is_temporary_config: bool = False


def train(options: TrainOptions) -> Path:
    """Train with a config. Errors of config, data and model are raised before the run folder is created.

    Returns:
        The run folder.

    Raises:
        XftError: an error that the user can fix.
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
    eval_prompts = read_eval_prompts(run_config.eval_prompts, run_config.data.system_text)
    tokenizer = run_config.model.load_tokenizer()
    template = (
        run_config.template.bind(tokenizer) if run_config.data.uses_template or eval_prompts else None
    )
    processor = run_config.model.load_processor(tokenizer)
    check_images(eval_prompts, processor)
    prepared = run_config.data.prepare(tokenizer, template, processor)
    if run_config.eval_prompts == VAL_ROWS:
        eval_prompts = val_questions(run_config.data, prepared.val)
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
            check_resumable(resume_state, config, plan.fingerprint())
            # Why: a scheduler restarts the command until it succeeds.
            console.info(str(done))
            return work_dir
    if dry_run is not None:
        _dry_run(dry_run, setup, work_dir, rank)
        return work_dir
    with lock_run_dir(work_dir, rank, options.resume is not None, resume_state):
        _run(setup, work_dir, resume_state, lines, resume_command(options, work_dir))
    return work_dir


def _run(
    setup: TrainSetup, work_dir: Path, resume_state: ResumeState | None, lines: list[str], to_resume: str
) -> None:
    """Build strategy, runner and loop, train, and write the final model."""
    strategy = setup.create_strategy(work_dir)
    runner, loop, memory = setup.build_runner(strategy)
    runner.resume_command = to_resume
    if resume_state is not None:
        runner.resume_from(resume_state, loop, stop_reason(resume_state, runner.hooks))
    if strategy.rank == 0:
        write_records(work_dir, setup.config, setup.data, setup.plan, resolved_values(setup, strategy))
        write_environment(work_dir, setup.plan, strategy, setup.data, runner.clock)
        runner.loggers = open_loggers(setup, work_dir, loop.step)
        if resume_state is not None and resume_state.folder.parent.parent.samefile(work_dir):
            runner.rewind_loggers()
    _print_summary(setup, work_dir, strategy, memory, lines)
    runner.train(loop)
    _finish(runner, strategy)
    strategy.close()


def resume_command(options: TrainOptions, work_dir: Path) -> str:
    """Return the command line that resumes a run from its newest checkpoint."""
    # Why: a config that was made for the command is gone with it, and that of the run has the same values.
    config = short_path(work_dir / "config.py") if options.is_temporary_config else options.config
    overrides = [] if options.is_temporary_config else options.overrides
    arguments = [config, "--work-dir", short_path(work_dir), "--resume"]
    arguments += ["--safe-config"] if options.safe_config else []
    arguments += ["--fsdp"] if options.fsdp else []
    values = {
        "--seed": options.seed,
        "--deepspeed": options.deepspeed,
        "--sequence-parallel-size": options.sequence_parallel_size,
    }
    for name, value in values.items():
        arguments += [name, str(value)] if value is not None else []
    if options.launcher == "pytorch":
        arguments += ["--nproc-per-node", os.environ.get("LOCAL_WORLD_SIZE", "1")]
    elif options.launcher != "none":
        arguments += ["--launcher", options.launcher]
    if overrides:
        arguments += ["--cfg-options", *overrides]
    return command("train", *arguments)


def _print_summary(
    setup: TrainSetup, work_dir: Path, strategy: Strategy, memory: str, lines: Sequence[str] = ()
) -> None:
    summary = format_run_summary(
        setup.run_config, setup.model, setup.data, setup.plan, setup.template, work_dir
    )
    note = labeled("memory", memory) if memory else []
    warnings = data_warnings(
        setup.run_config, setup.data, setup.template, setup.model.tokenizer, setup.eval_prompts
    )
    note += [line for warning in warnings for line in labeled("warning", warning)]
    for line in (*summary, *strategy.describe(), *note, *lines):
        console.info(line)


def _read_config(options: TrainOptions) -> dict[str, Any]:
    """Load the config, apply the options of the command line, and check the result."""
    if options.dry_run and options.resume is not None:
        raise ConfigError("--dry-run: cannot be combined with --resume; leave out --resume")
    overrides = parse_overrides(options.overrides)
    if options.seed is not None:
        overrides["seed"] = options.seed
    config = load_config(options.config, overrides, options.safe_config)
    StrategyOptions(
        options.fsdp, options.deepspeed, options.sequence_parallel_size, options.launcher != "none"
    ).apply(config, overrides)
    check(config, RunConfig, options.config)
    return config


def _dry_run(dry_run: DryRun, setup: TrainSetup, work_dir: Path, rank: int) -> None:
    """Set up the run in a temporary folder, and measure its phases."""
    dry_run.plan = setup.plan
    with temporary_run_dir(work_dir, rank) as folder:
        shared = broadcast_object(folder) if setup.strategy_config.is_distributed else folder
        strategy = setup.create_strategy(shared)
        with dry_run.profiler.phase("setup", "reference of the objective, optimizer"):
            runner, loop, memory = setup.build_runner(strategy)
        _print_summary(setup, work_dir, strategy, memory)
        with closing(loop):
            dry_run.run(runner, loop, setup.data)
    strategy.close()


def _finish(runner: Runner, strategy: Strategy) -> None:
    """Write the final folder, and verify that its outputs equal those of the live model."""
    is_sharded = strategy.params_are_sharded
    if strategy.rank == 0 or is_sharded:
        expected = expect_live(runner)
    with runner.checkpointer.full_weights() if is_sharded else nullcontext() as weights:
        if strategy.rank == 0:
            final, comparison = runner.write_final(
                lambda folder: verify_final(runner, folder, expected), weights
            )
    if strategy.rank == 0:
        write_end(runner.run_dir, runner.model_metadata.step or runner.train_loop.step, runner.clock)
        print_verdict(runner, final, comparison, write_run_report(runner.run_dir))
    strategy.barrier()


def _reject_finished_run(state: ResumeState, plan: TrainingPlan, run_config: RunConfig) -> None:
    """Raise if the run is finished.

    A run that was killed after its last step may lack its ``final`` folder or report: it is resumed to write them.

    Raises:
        ConfigError: the run is finished.
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
