import pytest
import torch
from helpers.runner import FakeRunner

from xft.evaluation import EvalPrompt, PromptResult
from xft.training.dry_run.profile import ResourceProfiler
from xft.training.hooks.sample_generation import (
    ASKED_AGAIN,
    NOT_ASKED_AGAIN,
    SampleGenerationHook,
    side_by_side,
)
from xft.utils import console

SCORED, PLAIN = EvalPrompt("2 + 2?", "4"), EvalPrompt("Who are you?")


class _FixedAnswers(SampleGenerationHook):
    """Answer with the number of the step; there is no model."""

    def _takes_part(self, runner: FakeRunner) -> bool:  # type: ignore[override]
        return bool(runner.eval_prompts)

    def samples(self, runner: FakeRunner) -> list[PromptResult]:  # type: ignore[override]
        step = runner.train_loop.step
        return [
            PromptResult(prompt, str(step), _score(prompt, step), True) for prompt in runner.eval_prompts
        ]


def _score(prompt: EvalPrompt, step: int) -> float | None:
    return None if prompt.reference is None else float(prompt.reference == str(step))


def _runner(step: int = 0) -> FakeRunner:
    runner = FakeRunner(num_steps=8)
    runner.eval_prompts = [SCORED, PLAIN]
    runner.train_loop.step = step
    return runner


def test_answers_are_generated_before_in_the_middle_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    hook, runner = _FixedAnswers(), _runner()
    hook.before_train(runner)
    for step in range(1, 9):
        runner.train_loop.step = step
        hook.after_train_iter(runner, step - 1, [], {})
    hook.after_train(runner)
    assert runner.recorder.answers == [(0, ["0", "0"]), (4, ["4", "4"]), (8, ["8", "8"])]
    assert [
        (record["step"], record["score"], record["num_scored"]) for record in runner.recorder.records
    ] == [
        (0, 0.0, 1),
        (4, 1.0, 1),
        (8, 0.0, 1),
    ]
    assert "    before     ✗ 0" in lines
    assert "    after      ✗ 8" in lines


def test_run_that_is_stopped_generates_at_its_last_step() -> None:
    hook, runner = _FixedAnswers(), _runner(step=3)
    runner.train_loop.stop_reason = "early stopping"
    hook.after_train_iter(runner, 2, [], {})
    assert runner.recorder.answers == [(3, ["3", "3"])]


@pytest.mark.parametrize(
    ("prompts", "restored"), [([SCORED, PLAIN], ["0", "0"]), ([SCORED], []), ([PLAIN, SCORED], [])]
)
def test_resumed_run_restores_first_answers_to_unchanged_questions(
    prompts: list[EvalPrompt], restored: list[str]
) -> None:
    hook, runner = _FixedAnswers(), _runner()
    hook.before_train(runner)
    resumed = _runner(step=4)
    resumed.state, resumed.eval_prompts = runner.state, prompts
    again = _FixedAnswers()
    again.before_train(resumed)
    assert [result.answer for result in again.first] == restored
    assert resumed.recorder.answers == []


@pytest.mark.parametrize(
    ("interval", "num_steps", "due"),
    [(None, 2, [2]), (4, 9, [4, 8, 9]), (4, 10, [4, 8, 10]), (2, 3, [2, 3]), (1, 3, [1, 2, 3])],
)
def test_a_chosen_interval_leaves_out_the_step_before_the_last_and_a_set_one_holds(
    interval: int | None, num_steps: int, due: list[int]
) -> None:
    hook = SampleGenerationHook(interval)
    assert [step for step in range(1, num_steps + 1) if hook.is_due(step, num_steps)] == due


def test_run_without_template_generates_nothing() -> None:
    hook, runner = SampleGenerationHook(), _runner()
    hook.before_train(runner)
    assert (hook.first, runner.recorder.answers, runner.recorder.records) == ([], [], [])


def test_side_by_side_marks_scores_and_unfinished_answers_and_escapes_control_characters() -> None:
    before = [PromptResult(SCORED, "four\n\x1b[2J", 0.0, False)]
    after = [PromptResult(SCORED, "4" * 200, 1.0, True)]
    lines = side_by_side(before, after)
    assert lines[1:3] == [" 1. 2 + 2?", "    reference  4"]
    assert lines[3].startswith("    before     ✗ four ")
    assert lines[3].endswith("…(did not stop)")
    assert "\x1b" not in lines[3]
    assert lines[4] == "    after      ✓ " + "4" * 109 + "…"
    assert lines[-1] == "score before 0 of 1, after 1 of 1"


def test_suggest_less_memory_halves_the_answers_of_its_own_phase() -> None:
    hook = SampleGenerationHook(max_new_tokens=48)
    assert str(hook.suggest_less_memory("generation")).startswith("max_new_tokens=24 ")
    assert hook.suggest_less_memory("validation") is None
    assert str(hook.suggest_less_memory("general")).startswith("general_questions=False ")


class _GeneralAnswers(_FixedAnswers):
    """Answer the general questions too; ``score`` of them are right."""

    score = 1.0

    def _asks_general(self, runner: object) -> bool:
        return self.general_questions

    def _answer_general(self, runner: object) -> list[PromptResult]:
        return [PromptResult(SCORED, "4", self.score, True)]


@pytest.mark.parametrize(
    ("prompts", "general", "score", "labels"),
    [
        ([SCORED], True, 1.0, ["sample questions 3 times", "general questions 2 times"]),
        ([SCORED], True, 0.0, ["sample questions 3 times", "general questions 1 times"]),
        ([SCORED], False, 1.0, ["sample questions 3 times"]),
        ([], True, 1.0, ["general questions 2 times"]),
        ([], False, 1.0, []),
    ],
)
def test_dry_run_measures_the_general_questions_too(
    prompts: list[EvalPrompt], general: bool, score: float, labels: list[str]
) -> None:
    hook, runner = _GeneralAnswers(general_questions=general), _runner()
    hook.score, runner.eval_prompts = score, prompts
    profiler = ResourceProfiler(torch.device("cpu"), lambda phase: [])
    cost = hook.profile(runner, profiler)
    assert ("" if cost is None else cost.label) == ", ".join(labels)
    phases = {stats.phase: stats.seconds for stats in profiler.phases}
    assert set(phases) == {name for name, used in (("generation", prompts), ("general", general)) if used}
    expected = 3 * phases.get("generation", 0.0) + (2 if score else 1) * phases.get("general", 0.0)
    assert (0.0 if cost is None else cost.seconds) == pytest.approx(expected)


@pytest.mark.parametrize(("score", "explanation"), [(1.0, ASKED_AGAIN), (0.0, NOT_ASKED_AGAIN)])
def test_general_questions_are_explained_before_the_first_step(
    score: float, explanation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    hook, runner = _GeneralAnswers(), _runner()
    hook.score = score
    hook.before_train(runner)
    assert lines[-2:] == [f"  general questions at step 0: score {score:g} of 1", f"    {explanation}"]
    runner.train_loop.step = 8
    hook.after_train_iter(runner, 7, [], {})
    assert lines.count(f"    {explanation}") == 1
