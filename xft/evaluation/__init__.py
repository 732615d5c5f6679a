"""Evaluation: validation loss, sample questions, scorers, held-out files and reward scores."""

from xft.evaluation import scorers
from xft.evaluation.prompts import EvalPrompt, PromptResult, generate_answers, read_eval_prompts
from xft.evaluation.validation import evaluate

__all__ = ["EvalPrompt", "PromptResult", "evaluate", "generate_answers", "read_eval_prompts", "scorers"]
