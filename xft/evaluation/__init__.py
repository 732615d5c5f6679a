"""Evaluation: the validation loss, and the sample questions."""

from xft.evaluation import scorers
from xft.evaluation.prompts import Asked, Question, ask, read_questions
from xft.evaluation.validation import evaluate

__all__ = ["Asked", "Question", "ask", "evaluate", "read_questions", "scorers"]
