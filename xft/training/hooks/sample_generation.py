"""The sample questions: the answers before beside the answers after."""

from collections.abc import Sequence
from typing import Any

from xft.evaluation import PromptResult, generate_answers
from xft.evaluation.prompts import sum_scores
from xft.evaluation.scorers import Scorer, contains
from xft.models import TextGenerator, is_identity_adapter
from xft.registry import register
from xft.training.hooks.periodic import PeriodicHook
from xft.utils import console


@register("hooks", "sample_generation")
class SampleGenerationHook(PeriodicHook):
    """Asks the sample questions of the config before the first step, at intervals and at the end.

    Args:
        interval: steps between two askings; ``None`` asks once in the middle of the run.
        max_new_tokens: the most tokens of an answer.
        scorer: compares an answer with its reference, where the question names no other.
    """

    priority = "BELOW_NORMAL"

    def __init__(
        self, interval: int | None = None, max_new_tokens: int = 48, scorer: Scorer = contains
    ) -> None:
        super().__init__(interval, times=2)
        self.max_new_tokens = max_new_tokens
        self.scorer = scorer
        self.first: list[PromptResult] = []
        self.last: list[PromptResult] = []

    def before_train(self, runner: Any) -> None:
        """Ask what the run begins with; a resumed run remembers what it said."""
        if runner.train_loop.step == 0:
            self.first = self._ask(runner)
            runner.state["sample_generation"] = [each.to_dict() for each in self.first]
        else:
            kept = [PromptResult.from_dict(each) for each in runner.state.get("sample_generation", [])]
            self.first = kept if [each.question for each in kept] == runner.eval_prompts else []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Ask where it is time."""
        loop = runner.train_loop
        if self.is_due(loop.step, loop.plan.num_steps) or loop.stop_reason is not None:
            self.last = self._ask(runner)

    def after_train(self, runner: Any) -> None:
        """Print each question with the answer before and the answer after."""
        if len(self.first) == len(self.last) > 0:
            for line in side_by_side(self.first, self.last):
                console.info(line)

    def _ask(self, runner: Any) -> list[PromptResult]:
        strategy = runner.strategy
        if (
            not runner.eval_prompts
            or runner.template is None
            or not (strategy.rank == 0 or strategy.params_are_sharded)
        ):
            return []
        step = runner.train_loop.step
        asked = self.answers(runner)
        for logger in runner.loggers:
            logger.samples(step, [each.to_dict() for each in asked])
        score, scored = sum_scores(asked)
        if scored:
            runner.record("generation", score=score, num_scored=scored)
            console.info(f"  sample questions at step {step}: score {score:g} of {scored}")
        return asked

    def answers(self, runner: Any) -> list[PromptResult]:
        """Ask all questions, and keep nothing."""
        together, model = runner.strategy.params_are_sharded, runner.unwrapped_model
        # A new adapter that adds zero gives the answers of the model below it, which takes a fifth less time.
        base = runner.train_loop.step == 0 and not together and is_identity_adapter(model)
        generator = TextGenerator(model, runner.tokenizer, runner.template, together, base)
        with runner.strategy.autocast():
            return generate_answers(generator, runner.eval_prompts, self.scorer, self.max_new_tokens)


def side_by_side(before: Sequence[PromptResult], after: Sequence[PromptResult]) -> list[str]:
    """Lines that show, for each question, the answer before and the answer after."""
    lines = [""]
    for number, (old, new) in enumerate(zip(before, after, strict=True), 1):
        lines.append(f"{number:>2}. {console.escape_control_chars(old.question.question)}")
        if old.question.reference is not None:
            lines.append(f"    wanted  {console.escape_control_chars(old.question.reference)}")
        lines.append(f"    before  {_mark(old)}{_shorten(old)}")
        lines.append(f"    after   {_mark(new)}{_shorten(new)}")
    (first, scored), (last, _) = sum_scores(before), sum_scores(after)
    if scored:
        lines += ["", f"score before {first:g} of {scored}, after {last:g} of {scored}"]
    return lines


def _mark(asked: PromptResult) -> str:
    return "" if asked.score is None else ("✓ " if asked.score >= 1 else "✗ " if asked.score <= 0 else "~ ")


def _shorten(asked: PromptResult, length: int = 110) -> str:
    text = console.escape_control_chars(" ".join(asked.answer.split()))
    if len(text) > length:
        return text[: length - 1] + "…"
    return text if asked.stopped else text + " …(did not stop)"
