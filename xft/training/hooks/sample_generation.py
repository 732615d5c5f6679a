"""Answers to the sample questions before, during and after training."""

from collections.abc import Mapping, Sequence

from xft.evaluation import EvalPrompt, PromptResult, generate_answers
from xft.evaluation.prompts import score_mark, sum_scores
from xft.evaluation.scorers import Scorer, contains
from xft.models import TextGenerator, is_identity_adapter
from xft.models.reward_head import is_reward_model
from xft.registry import register
from xft.training.dry_run.profile import ResourceProfiler
from xft.training.hooks.base import HookCost
from xft.training.hooks.general_questions import MAX_NEW_TOKENS, SPLIT, read_general_questions
from xft.training.hooks.periodic import PeriodicHook
from xft.training.runner import Runner
from xft.types import Batch
from xft.types.ranges import Count
from xft.utils import console
from xft.utils.console import format_score
from xft.utils.generation_records import title_of

ASKED_AGAIN = "facts that your rows do not teach; asked again at the end, to notice forgetting"
NOT_ASKED_AGAIN = "facts that your rows do not teach; none is known, so they are not asked again"
"""Lines below the first score of the general questions."""


@register("hooks", "sample_generation")
class SampleGenerationHook(PeriodicHook):
    """Answer the sample questions before the first step, at intervals and at the last step.

    Args:
        interval: steps between two generations; ``None`` generates once in the middle of the run.
        max_new_tokens: maximum length of an answer in tokens.
        scorer: compares an answer with its reference, unless the question names another scorer.
        general_questions: whether a few general questions are asked before and after training too. A lower score
            after training shows that the model loses what it knew.
    """

    priority = "BELOW_NORMAL"

    def __init__(
        self,
        interval: Count | None = None,
        max_new_tokens: Count = 48,
        scorer: Scorer = contains,
        general_questions: bool = True,
    ) -> None:
        super().__init__(interval, times=2)
        self.max_new_tokens = max_new_tokens
        self.scorer = scorer
        self.general_questions = general_questions
        self.first: list[PromptResult] = []
        self.last: list[PromptResult] = []

    def is_due(self, step: int, num_steps: int) -> bool:
        """Return whether the questions are asked after a step.

        An interval that is chosen for the run leaves out the step before the last; a set one holds.
        """
        return super().is_due(step, num_steps) and (self.interval is not None or num_steps - step != 1)

    def before_train(self, runner: Runner) -> None:
        """Generate with the untrained model, or restore its answers in a resumed run."""
        if runner.train_loop.step == 0:
            self.first = self._generate(runner)
            runner.state["sample_generation"] = [result.to_dict() for result in self.first]
            runner.state["general_score"] = self._ask_general(runner)
        else:
            kept = [PromptResult.from_dict(values) for values in runner.state.get("sample_generation", [])]
            self.first = kept if [result.question for result in kept] == runner.eval_prompts else []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Sequence[Batch], outputs: Mapping[str, float]
    ) -> None:
        """Generate if it is due."""
        loop = runner.train_loop
        ends = loop.step == loop.plan.num_steps or loop.stop_reason is not None
        if self.is_due_now(loop):
            self.last = self._generate(runner)
        if ends and runner.state.get("general_score"):
            self._ask_general(runner)

    def after_train(self, runner: Runner) -> None:
        """Print each question with the answers before and after training."""
        if len(self.first) == len(self.last) > 0:
            for line in side_by_side(self.first, self.last):
                console.info(line)

    def _takes_part(self, runner: Runner) -> bool:
        """Return whether this rank answers sample questions."""
        return bool(runner.eval_prompts) and self._generates(runner)

    def _generates(self, runner: Runner) -> bool:
        """Return whether this rank generates: rank 0, and all ranks if parameters are sharded."""
        if runner.template is None or is_reward_model(runner.unwrapped_model):
            return False
        return runner.strategy.rank == 0 or runner.strategy.params_are_sharded

    def _generate(self, runner: Runner) -> list[PromptResult]:
        if not self._takes_part(runner):
            return []
        step = runner.train_loop.step
        results = self.samples(runner)
        for logger in runner.loggers:
            logger.generations(step, [result.to_dict() for result in results])
        score, num_scored = sum_scores(results)
        if num_scored:
            runner.record("generation", score=score, num_scored=num_scored)
            console.info(f"  sample questions at step {step}: score {format_score(score)} of {num_scored}")
            runner.call_hook("after_generation", score=score)
        return results

    def _ask_general(self, runner: Runner) -> float:
        """Ask the general questions, and return their score; 0 if they are not asked."""
        if not self._asks_general(runner):
            return 0.0
        score, num_scored = sum_scores(self._answer_general(runner))
        runner.record(SPLIT, score=score, num_scored=num_scored)
        step = runner.train_loop.step
        console.info(f"  general questions at step {step}: score {format_score(score)} of {num_scored}")
        if step == 0:
            console.info(f"    {ASKED_AGAIN if score else NOT_ASKED_AGAIN}")
        return score

    def _asks_general(self, runner: Runner) -> bool:
        """Return whether this rank answers general questions."""
        return self.general_questions and self._generates(runner)

    def _answer_general(self, runner: Runner) -> list[PromptResult]:
        assert runner.template is not None
        return self._answer(runner, read_general_questions(runner.template), MAX_NEW_TOKENS)

    def samples(self, runner: Runner) -> list[PromptResult]:
        """Answer all sample questions, without recording the answers."""
        return self._answer(runner, runner.eval_prompts, self.max_new_tokens)

    def _answer(
        self, runner: Runner, prompts: Sequence[EvalPrompt], max_new_tokens: int
    ) -> list[PromptResult]:
        if runner.template is None:
            return []
        sharded, model = runner.strategy.params_are_sharded, runner.unwrapped_model
        # A new adapter that adds zero gives the answers of the base model, which takes a fifth less time.
        base_only = runner.train_loop.step == 0 and not sharded and is_identity_adapter(model)
        generator = TextGenerator(model, runner.tokenizer, runner.template, sharded, base_only)
        with runner.strategy.autocast():
            return generate_answers(generator, prompts, self.scorer, max_new_tokens)

    def profile(self, runner: Runner, profiler: ResourceProfiler) -> HookCost | None:
        """Answer all sample questions and all general questions once."""
        labels, seconds = [], 0.0
        if self._takes_part(runner):
            console.info("dry run: sample questions")
            count = len(runner.eval_prompts)
            text = f"{count} questions, at most {self.max_new_tokens} new tokens"
            with profiler.phase("generation", text):
                self.samples(runner)
            calls = self.count_calls(runner.train_loop.plan.num_steps) + 1  # one before the first step
            labels.append(f"sample questions {calls} times")
            seconds += calls * profiler.seconds("generation")
        if self._asks_general(runner):
            console.info("dry run: general questions")
            with profiler.phase(SPLIT, f"at most {MAX_NEW_TOKENS} new tokens"):
                score, _ = sum_scores(self._answer_general(runner))
            calls = 2 if score else 1  # a model that answers none is not asked again
            labels.append(f"general questions {calls} times")
            seconds += calls * profiler.seconds(SPLIT)
        return HookCost(", ".join(labels), seconds) if labels else None

    def suggest_less_memory(self, phase: str) -> str | None:
        """Suggest shorter answers, or no general questions."""
        if phase == SPLIT:
            return "general_questions=False  (forgetting is not measured)"
        if phase != "generation":
            return None
        return (
            f"max_new_tokens={max(self.max_new_tokens // 2, 1)}  (shorter answers; or use fewer questions)"
        )


def side_by_side(before: Sequence[PromptResult], after: Sequence[PromptResult]) -> list[str]:
    """Format each question with its answers before and after training, as lines for the terminal."""
    lines = [""]
    for number, (old, new) in enumerate(zip(before, after, strict=True), 1):
        title = title_of(old.question.question, old.question.images)
        lines.append(f"{number:>2}. {console.escape_control_chars(title)}")
        if old.question.reference is not None:
            lines.append(f"    reference  {console.escape_control_chars(old.question.reference)}")
        lines.append(f"    before     {score_mark(old.score)}{_abbreviate(old)}")
        lines.append(f"    after      {score_mark(new.score)}{_abbreviate(new)}")
    (first, scored), (last, _) = sum_scores(before), sum_scores(after)
    if scored:
        lines += [
            "",
            f"score before {format_score(first)} of {scored}, after {format_score(last)} of {scored}",
        ]
    return lines


def _abbreviate(result: PromptResult, length: int = 110) -> str:
    text = console.shorten(result.answer, length)
    return text if result.stopped or text.endswith("…") else text + " …(did not stop)"
