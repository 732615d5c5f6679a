from typing import Any

import pytest
from helpers.runner import FakeRunner

from xft.evaluation import EvalPrompt, PromptResult
from xft.templates import ChatTemplate
from xft.training.hooks.general_questions import read_general_questions
from xft.training.hooks.sample_generation import SampleGenerationHook
from xft.types import Tokenizer


class _FixedScores(SampleGenerationHook):
    """Answers the first questions right, as many as ``right`` says for the step; there is no model."""

    right: dict[int, int]

    def _answer(self, runner: Any, prompts: Any, max_new_tokens: int) -> list[PromptResult]:
        right = self.right[runner.train_loop.step]
        return [
            PromptResult(prompt, "x", float(index < right), True) for index, prompt in enumerate(prompts)
        ]


def _records(tokenizer: Tokenizer, right: dict[int, int], **options: Any) -> list[tuple[int, float]]:
    """Step and score of the general questions in a run of 8 steps."""
    hook, runner = _FixedScores(**options), FakeRunner(num_steps=8)
    hook.right, runner.template = right, ChatTemplate().bind(tokenizer)
    hook.before_train(runner)
    for step in (4, 8):
        runner.train_loop.step = step
        hook.after_train_iter(runner, step - 1, [], {})
    return [
        (record["step"], record["score"])
        for record in runner.recorder.records
        if record["split"] == "general"
    ]


@pytest.mark.parametrize(
    ("right", "options", "records"),
    [
        ({0: 5, 8: 1}, {}, [(0, 5), (8, 1)]),
        ({0: 0}, {}, [(0, 0)]),  # a model that knows nothing has nothing to lose
        ({}, {"general_questions": False}, []),
    ],
)
def test_general_questions_are_asked_before_and_after_training(
    smollm2_tokenizer: Tokenizer,
    right: dict[int, int],
    options: dict[str, Any],
    records: list[tuple[int, float]],
) -> None:
    assert _records(smollm2_tokenizer, right, **options) == records


def test_questions_have_references_and_turn_reasoning_off(smollm2_tokenizer: Tokenizer) -> None:
    plain = read_general_questions(ChatTemplate().bind(smollm2_tokenizer))
    assert all(prompt.reference for prompt in plain)
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}-{% endif %}{% endif %}"
    )
    reasoning = read_general_questions(ChatTemplate(source).bind(smollm2_tokenizer))
    assert [prompt.chat_template_kwargs for prompt in reasoning] == [{"enable_thinking": False}] * len(
        plain
    )
    assert isinstance(reasoning[0], EvalPrompt)
