"""The sample questions: asked before, during and after training, through the same template."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xft.config.build import build_component
from xft.errors import ConfigError
from xft.evaluation.scorers import Scorer
from xft.models import TextGenerator
from xft.models.generation import Completion
from xft.types import Message
from xft.utils import paths


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and what the answer to it is scored by.

    Attributes:
        question: what the user says.
        reference: what the scorer compares the answer with; ``None`` is not scored.
        system: a system turn before it, if any.
        scorer: compares the two: a name; ``None`` leaves it to the scorer of all questions.
    """

    question: str
    reference: str | None = None
    system: str | None = None
    scorer: str | None = None

    def conversation(self) -> list[Message]:
        """The turns that the model is asked to go on from."""
        system = [Message("system", self.system)] if self.system else []
        return [*system, Message("user", self.question)]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what the model answered.

    Attributes:
        score: from 0 to 1; ``None`` where there is no reference.
        stopped: whether the model ended its answer itself.
    """

    question: Question
    answer: str
    score: float | None
    stopped: bool

    def to_dict(self) -> dict[str, Any]:
        """A record of ``generations.jsonl``, without the step."""
        return {
            "system": self.question.system,
            "question": self.question.question,
            "answer": self.answer,
            "reference": self.question.reference,
            "scorer": self.question.scorer,
            "score": self.score,
            "stopped": self.stopped,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Asked":
        """The inverse of ``to_dict``."""
        question = Question(
            record["question"], record["reference"], record.get("system"), record.get("scorer")
        )
        return cls(question, record["answer"], record["score"], record["stopped"])


def read_questions(source: str | Sequence[str | Mapping[str, Any]]) -> list[Question]:
    """Read the ``questions`` of a config.

    Args:
        source: a list of questions, each a text or a dict of ``question``, ``reference``, ``system``
            and ``scorer`` (a name); or a ``.jsonl`` or ``.json`` file of them, or ``xft://NAME``.

    Raises:
        ConfigError: the file does not exist, an entry is no question, there is no such scorer, or it
            cannot read the reference.
    """
    items: Sequence[Any] = _read_file(source) if isinstance(source, str) else source
    questions: list[Question] = []
    for number, item in enumerate(items, 1):
        if isinstance(item, str):
            questions.append(Question(item))
            continue
        if not _is_question(item):
            raise ConfigError(
                f"questions, number {number}: got {item!r}, expected a text or "
                "dict(question=..., reference=..., system=..., scorer=...)"
            )
        question = Question(**item)
        if question.scorer is not None:
            if question.reference is None:
                raise ConfigError(
                    f"questions, number {number}: has a scorer, and no reference for it to score by"
                )
            # A reference that the scorer cannot read is refused now, and not in the middle of a run.
            build_component("scorer", question.scorer)(Completion("", "stop", 0), question.reference)
        questions.append(question)
    return questions


def _is_question(item: Any) -> bool:
    return (
        isinstance(item, Mapping)
        and isinstance(item.get("question"), str)
        and set(item) <= {"question", "reference", "system", "scorer"}
        and all(value is None or isinstance(value, str) for value in item.values())
    )


def _parse_line(path: str, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"questions: {path}:{number}: broken JSON ({error.msg})") from error


def ask(
    generator: TextGenerator, questions: Sequence[Question], scorer: Scorer, max_new_tokens: int
) -> list[Asked]:
    """Ask all questions, in one batch, taking the likeliest token each time.

    Args:
        generator: the model that is asked.
        questions: what it is asked.
        scorer: for questions that have no scorer of their own.
        max_new_tokens: the most tokens of an answer.
    """
    answers = generator.answer([each.conversation() for each in questions], max_new_tokens)
    asked = []
    for question, answer in zip(questions, answers, strict=True):
        compare = scorer if question.scorer is None else build_component("scorer", question.scorer)
        score = None if question.reference is None else compare(answer, question.reference)
        asked.append(Asked(question, answer.text, score, answer.finish_reason == "stop"))
    return asked


def total_score(asked: Sequence[Asked]) -> tuple[float, int]:
    """The sum of the scores, and how many questions are scored."""
    scores = [each.score for each in asked if each.score is not None]
    return sum(scores), len(scores)


def _read_file(path: str) -> list[Any]:
    file = paths.asset(path.removeprefix(paths.SCHEME)) if path.startswith(paths.SCHEME) else Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix == ".jsonl":
            return [_parse_line(path, *each) for each in enumerate(text.split("\n"), 1) if each[1].strip()]
        loaded = json.loads(text)
    except OSError as error:
        raise ConfigError(f"questions: cannot read {path} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"questions: {path} is not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"questions: {path}:{error.lineno}: broken JSON ({error.msg})") from error
    if not isinstance(loaded, list):
        raise ConfigError(f"questions: {path}: got a {type(loaded).__name__}, expected a list")
    return loaded
