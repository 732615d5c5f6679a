"""The outcome of a run: how its metrics changed, and whether the final model is the best one."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from xft.reporting.run_folder import RunFolder
from xft.utils.console import format_score, shorten

LOWER_IS_BETTER = ("loss",)
FORGOTTEN = 2
"""General questions that are answered no longer, from which on a warning is due: one may be chance."""
REPEATED = 3
"""Questions with the same answer, from which on a warning is due."""


@dataclass(frozen=True)
class Change:
    """Values of a metric before training, of the final model, and of the best model of the run.

    Attributes:
        name: ``score``, ``loss`` or ``reward``.
        before: before the first step; ``None`` if it was not measured.
        after: of the final weights, or if these were not measured, of the last measurement.
        step: step of ``after``.
        best: the best value, that before training included.
        best_step: step of ``best``, the last one of equal values.
        total: number of scored questions; 0 for other metrics.
    """

    name: str
    before: float | None
    after: float
    step: int
    best: float
    best_step: int
    total: int = 0

    @property
    def gain(self) -> float:
        """Improvement over the model before training; negative if it is worse, 0 if there is none to compare with."""
        return self._better_by(self.after, self.after if self.before is None else self.before)

    @property
    def lost(self) -> float:
        """How much worse the final model is than the best; 0 if it is the best."""
        return self._better_by(self.best, self.after)

    def _better_by(self, value: float, other: float) -> float:
        return other - value if self.name in LOWER_IS_BETTER else value - other


@dataclass(frozen=True)
class Outcome:
    """What a run has achieved.

    Attributes:
        score: of the sample questions.
        validation: loss of the validation split, or its reward with sampled completions.
        general: score of the general questions, which the rows do not teach.
        seconds: duration in seconds; ``None`` for an unfinished run.
        steps: number of recorded steps.
        final_step: step of the final weights.
    """

    score: Change | None
    validation: Change | None
    general: Change | None
    seconds: float | None
    steps: int
    final_step: int


def outcome_of(run: RunFolder) -> Outcome:
    """Return the outcome of a run that may be unfinished."""
    section = run.environment.get("run")
    values = section if isinstance(section, dict) else {}
    step, seconds = values.get("final_step"), values.get("seconds")
    final_step = step if isinstance(step, int) else run.last_step
    metric = "reward" if run.points("val", "reward") else "loss"
    return Outcome(
        _change(run, "generation", "score", final_step),
        _change(run, "val", metric, final_step),
        _change(run, "general", "score", final_step),
        float(seconds) if isinstance(seconds, int | float) else None,
        run.last_step,
        final_step,
    )


def verdict(outcome: Outcome) -> str:
    """Return one sentence on the result of a run: the sample questions decide, then the validation."""
    change = outcome.score or outcome.validation
    if change is None:
        return "nothing was measured: add sample questions (eval_prompts) or a validation split"
    name = {"score": "the score", "loss": "the validation loss", "reward": "the validation reward"}[
        change.name
    ]
    if change.before is None:
        return f"{name} is {_number(change, change.after)}; it was not measured before training"
    if not change.gain:
        return f"no change: {name} is still {_number(change, change.after)}"
    return (
        f"{'better' if change.gain > 0 else 'worse'}: {name} went from {_number(change, change.before)} to "
        f"{_number(change, change.after)}"
    )


def warnings(outcome: Outcome, run: RunFolder) -> Iterator[str]:
    """Yield what a user should know before the final model is used."""
    score, general = outcome.score, outcome.general
    decisive = score or outcome.validation
    if decisive is not None and decisive.lost > 0 and decisive.best_step == 0:
        # No checkpoint is better: the best model is the one before training.
        yield (
            f"no step is better than the model before training: {decisive.name} {_number(decisive, decisive.best)} then, "
            f"{_number(decisive, decisive.after)} now; lower optimizer.lr, and check the rows with `xft inspect-data`"
        )
    elif score is not None and score.lost > 0:
        yield (
            f"the final model answers worse than at step {score.best_step}: score {format_score(score.after)}, not "
            f"{format_score(score.best)}. To keep the better one: hooks.checkpoint.metric_for_best_model=score "
            "hooks.checkpoint.load_best_model_at_end=True"
        )
    if (
        general is not None
        and general.before is not None
        and -general.gain >= max(FORGOTTEN, general.before / 3)
    ):
        yield (
            f"the model forgets: of {general.total} general questions it answered {format_score(general.before)} before, and "
            f"{format_score(general.after)} after training; lower optimizer.lr or training.epochs, or add general rows"
        )
    yield from _repeated_answers(run)


def _repeated_answers(run: RunFolder) -> Iterator[str]:
    """Warn if the last answers to several questions with different references are the same text."""
    last = [records[-1] for records in run.prompts() if records]
    step = max((record["step"] for record in last), default=0)
    references = defaultdict(list)
    for record in last:
        if record["step"] == step and record["answer"].strip():
            references[record["answer"].strip()].append(record.get("reference"))
    for answer, expected in references.items():
        if len(expected) >= REPEATED and len(set(expected)) > 1:
            yield f"{len(expected)} of {len(last)} sample questions get the same answer: {shorten(answer, 60)!r}"


def describe(change: Change) -> str:
    """Return ``0 → 9 of 10 (best: 10 at step 60)``."""
    before = "?" if change.before is None else _number(change, change.before)
    total = f" of {change.total}" if change.total else ""
    best = f" (best: {_number(change, change.best)} at step {change.best_step})" if change.lost > 0 else ""
    return f"{before} → {_number(change, change.after)}{total}{best}"


def _number(change: Change, value: float) -> str:
    return format_score(value) if change.total else f"{value:.4g}"


def _change(run: RunFolder, split: str, name: str, final_step: int) -> Change | None:
    points = [(int(step), value) for step, value in run.points(split, name) if value is not None]
    if not points:
        return None
    values = dict(points)
    step = final_step if final_step in values else max(values)
    sign = -1 if name in LOWER_IS_BETTER else 1
    best_step, best = max(points, key=lambda point: (sign * point[1], point[0]))
    totals = [value for _, value in run.points(split, "num_scored") if value is not None]
    total = int(totals[-1]) if totals else 0
    return Change(name, values.get(0), values[step], step, best, best_step, total)
