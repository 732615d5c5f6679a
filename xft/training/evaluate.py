"""Evaluation of a trained model after its run: ``xft eval``."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from xft.config import build, build_component, check, load_config
from xft.data.config.auto_format import choose_format, is_auto
from xft.data.formats.detect import bound_format
from xft.data.formats.system_text import with_system
from xft.data.sources import resolve_source
from xft.errors import ConfigError, XftError
from xft.evaluation import generate_answers, read_eval_prompts
from xft.evaluation.heldout import GeneratedAnswer, answer_rows, metrics_of
from xft.evaluation.prompts import score_mark, sum_scores
from xft.evaluation.scorers import contains
from xft.evaluation.text_metrics import check_installed
from xft.evaluation.val_questions import val_questions
from xft.models import LoadedModel, TextGenerator, load_saved_model
from xft.models.generation_defaults import neutral_generation_config
from xft.run_config.config import RunConfig
from xft.templates import BoundTemplate
from xft.training.hooks.sample_generation import SampleGenerationHook
from xft.training.revalidate import count_trained_rows, format_metrics, rerun_validation
from xft.utils import console, paths
from xft.utils.console import format_score, shorten
from xft.utils.paths import VAL_ROWS
from xft.utils.temporary_folder import temporary_folder

TASK_FILES = (".yaml", ".yml")
SHOWN = 3
"""Answers of a held-out file that are printed."""
PROGRESS_SECONDS = 10.0
"""Time between the lines that count answered rows."""
SHOWN_CHARS = 100
"""Maximum length of a printed text."""


@dataclass(frozen=True)
class EvalOptions:
    """Options of ``xft eval``.

    Attributes:
        run: a run folder.
        data: a held-out file of rows.
        format: format of its rows; by default that of the run.
        tasks: of lm-evaluation-harness: names, or YAML files of its kind.
        limit: the most rows of ``data``, and of each task.
        max_new_tokens: the most tokens of an answer.
        out: a file for the results.
        trust_config: run the config of the run as Python; else it is read as data.
        trust_remote_code: run Python code that is stored next to the weights.
    """

    run: str
    data: str | None = None
    format: str | None = None
    tasks: Sequence[str] = ()
    limit: int | None = None
    max_new_tokens: int = 256
    out: str | None = None
    trust_config: bool = False
    trust_remote_code: bool = False


def evaluate_run(options: EvalOptions) -> dict[str, Any]:
    """Evaluate the saved model of a run, print the results and return them.

    Raises:
        XftError: an error that the user can fix.
    """
    folder = Path(options.run)
    if not (folder / "config.py").is_file():
        raise ConfigError(key="RUN", got=options.run, expected="a run folder, which has a config.py")
    if options.data is not None:
        check_installed()
        resolve_source(options.data)  # report a missing file before anything slow
    if options.tasks:
        _check_harness()
    config = load_config(folder / "config.py", safe_config=not options.trust_config)
    check(config, RunConfig, str(folder / "config.py"))
    run_config = build(config, RunConfig)
    if run_config.model.kind == "reward_model" and (options.data is not None or options.tasks):
        raise ConfigError(
            key="RUN",
            got=f"a reward model, {options.run}",
            expected="a language model for --data and --tasks",
            fix="score rows with `xft score RUN FILE`",
        )
    measured: dict[str, Any] = {}
    complete = False
    try:
        _measure(options, run_config, config, measured)
        complete = True
    finally:
        # Measurements take long: an error in one of them must not lose the others.
        if options.out is not None and measured:
            _write(Path(options.out), {"complete": complete, **measured})
    return measured


def _measure(
    options: EvalOptions, run_config: RunConfig, config: Mapping[str, Any], measured: dict[str, Any]
) -> None:
    """Load the model of a run, and add its results to ``measured`` one after the other."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_saved_model(
        options.run, device=device, trust_remote_code=options.trust_remote_code, kind=run_config.model.kind
    )
    template = (
        run_config.template.bind(loaded.tokenizer)
        if run_config.data.uses_template or run_config.eval_prompts not in ([], VAL_ROWS)
        else None
    )
    if validation := rerun_validation(run_config, loaded, template, device):
        measured["validation"] = validation
    if template is not None and run_config.model.kind != "reward_model":
        generator = TextGenerator(loaded.model, loaded.tokenizer, template)
        if questions := _ask(run_config, generator, loaded, template):
            measured["questions"] = questions
        if options.data is not None:
            system = run_config.data.system_text
            measured["data"], rows = _answer(options, config, system, generator)
            measured["data"]["trained_on"] = _count_overlap(
                options.data, rows, run_config, loaded, template
            )
    elif options.data is not None:
        raise ConfigError(
            key="--data",
            got="a model without chat template",
            expected="one with which it answers questions",
        )
    if options.tasks:
        measured["tasks"] = _harness(options, loaded)


def _count_overlap(
    path: str,
    rows: Sequence[GeneratedAnswer],
    run_config: RunConfig,
    loaded: LoadedModel,
    template: BoundTemplate,
) -> int | None:
    """Count the answered rows that the run has trained on, and warn if there are any.

    Returns:
        The number of rows; ``None`` if they cannot be compared.
    """
    try:
        count = count_trained_rows(run_config, [row.content for row in rows], loaded, template)
    except XftError as error:
        console.info(f"warning: rows of {path} are not compared with the training rows: {error}")
        return None
    if count:
        console.info(
            f"warning: {count} of {len(rows)} rows of {path} are training rows of this run: the metrics show recall"
        )
    return count


def _ask(
    run_config: RunConfig, generator: TextGenerator, loaded: LoadedModel, template: BoundTemplate
) -> list[dict[str, Any]]:
    questions = read_eval_prompts(run_config.eval_prompts, run_config.data.system_text)
    if run_config.eval_prompts == VAL_ROWS:
        prepared = run_config.data.prepare(loaded.tokenizer, template, loaded.processor)
        questions = val_questions(run_config.data, prepared.val)
    if not questions:
        return []
    hook = next(
        (hook for hook in run_config.hooks.values() if isinstance(hook, SampleGenerationHook)), None
    )
    scorer, most = (contains, 48) if hook is None else (hook.scorer, hook.max_new_tokens)
    asked = generate_answers(generator, questions, scorer, most)
    score, scored = sum_scores(asked)
    console.info(f"questions   score {format_score(score)} of {scored}, {len(asked)} asked")
    for result in asked:
        question, answer = (
            shorten(text, SHOWN_CHARS) for text in (result.question.question, result.answer)
        )
        console.info(f"  {question}\n    {score_mark(result.score)}{answer}")
    return [result.to_dict() for result in asked]


def _answer(
    options: EvalOptions, config: Mapping[str, Any], system: str, generator: TextGenerator
) -> tuple[dict[str, Any], list[GeneratedAnswer]]:
    """Answer the rows of ``--data``, print metrics and the first answers. Returns the results, and the rows."""
    assert options.data is not None
    data = config.get("data") or {}
    format = build_component("format", options.format or data.get("format", "auto"))
    if is_auto(format):
        format = bound_format(choose_format([resolve_source(options.data)], "instruction"))
    if system:
        format = partial(with_system, format, system)
    rows: list[GeneratedAnswer] = []
    printed = time.monotonic()
    for row in answer_rows(generator, options.data, format, options.max_new_tokens, options.limit):
        rows.append(row)
        if time.monotonic() - printed > PROGRESS_SECONDS:
            console.info(f"data        {len(rows):,} rows answered")
            printed = time.monotonic()
    metrics = metrics_of(rows)
    console.info(f"data        {format_metrics(metrics)}")
    for row in rows[:SHOWN]:
        texts = (row.question, row.reference, row.answer)
        question, reference, answer = (shorten(text, SHOWN_CHARS) for text in texts)
        console.info(f"  {question}\n    reference:  {reference}\n    prediction: {answer}")
    answers = [{"question": row.question, "reference": row.reference, "answer": row.answer} for row in rows]
    return {"file": Path(options.data).name, "metrics": metrics, "answers": answers}, rows


def _check_harness() -> None:
    if find_spec("lm_eval") is None:
        raise ConfigError(
            key="--tasks",
            got="no installed package 'lm_eval'",
            expected="lm-evaluation-harness",
            fix="pip install 'lm_eval>=0.4.9'",
        )


def _harness(options: EvalOptions, loaded: LoadedModel) -> dict[str, dict[str, Any]]:
    """Tasks of lm-evaluation-harness (Gao et al., https://github.com/EleutherAI/lm-evaluation-harness), or in
    files of its kind."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    files = [Path(task) for task in options.tasks if Path(task).suffix in TASK_FILES]
    names = [_task_of(Path(task)) if Path(task).suffix in TASK_FILES else task for task in options.tasks]
    manager = TaskManager(include_path=[str(file.parent) for file in files] or None)
    if unknown := [name for name in names if name not in manager.all_tasks]:
        near = get_close_matches(unknown[0], manager.all_tasks, n=3)
        fix = f"did you mean {' or '.join(near)}?" if near else "`lm_eval ls tasks` lists what it knows"
        expected = "a task of lm-evaluation-harness"
        raise ConfigError(key="--tasks", got=unknown[0], expected=expected, fix=fix)
    model = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=4)
    with neutral_generation_config(loaded.model):
        evaluated = simple_evaluate(model=model, tasks=names, limit=options.limit, task_manager=manager)
    results = evaluated["results"]
    for task, figures in results.items():
        console.info(f"task        {task}  " + format_metrics(figures))
    return {task: dict(figures) for task, figures in results.items()}


def _task_of(file: Path) -> str:
    """The name of the task in a file."""
    paths.check_regular(file, "--tasks")
    try:
        named = re.search(r"^task: *[\"']?([\w.-]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--tasks: cannot read {file} ({error})", key="--tasks", got=str(file)) from error
    if named is None:
        raise ConfigError(key="--tasks", got=str(file), expected="a file with a line `task: NAME`")
    return named[1]


def _write(file: Path, measured: Mapping[str, Any]) -> None:
    text = json.dumps(measured, indent=2, ensure_ascii=False, default=str) + "\n"
    try:
        with temporary_folder(file) as folder:
            draft = folder / "results"
            draft.write_text(text, encoding="utf-8")
            draft.replace(file)
    except OSError as error:
        raise ConfigError(
            f"--out: cannot write {file} ({error.strerror})", key="--out", got=str(file)
        ) from error
    console.info(f"wrote {file}")
