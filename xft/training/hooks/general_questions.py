"""General questions that no row teaches: they show whether a model loses what it knew before training."""

from collections.abc import Sequence

from xft.evaluation import EvalPrompt, read_eval_prompts
from xft.templates import BoundTemplate

QUESTIONS = "xft://general_questions.jsonl"
MAX_NEW_TOKENS = 16
"""Maximum length of an answer in tokens: the answers are single words."""
SPLIT = "general"
"""Split of their score in ``metrics.jsonl``."""


def read_general_questions(template: BoundTemplate) -> Sequence[EvalPrompt]:
    """Return the questions. A model that reasons before it answers is asked to answer directly."""
    prompts = read_eval_prompts(QUESTIONS)
    if "enable_thinking" not in template.source:
        return prompts
    return [
        EvalPrompt(prompt.question, prompt.reference, None, None, {"enable_thinking": False})
        for prompt in prompts
    ]
