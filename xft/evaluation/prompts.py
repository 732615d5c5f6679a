"""Sample questions: prompts that the model answers before, during and after training, in the training template."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xft.config.build import build_component
from xft.data.formats.images import image_message
from xft.data.images.reading import open_image
from xft.data.sources.shipped_files import resolve_file
from xft.errors import ConfigError, DataError
from xft.evaluation.scorers import Scorer
from xft.models import TextGenerator
from xft.models.generation import Completion
from xft.templates import TemplateOptions
from xft.types import ImageProcessor, Message, Messages
from xft.utils import paths

_TYPES: Mapping[str, type] = {
    "question": str,
    "reference": str,
    "system": str,
    "scorer": str,
    "chat_template_kwargs": Mapping,
    "image": str,
    "images": list,
}
"""Keys of an entry of ``eval_prompts``, and the types of their values."""


@dataclass(frozen=True, slots=True)
class EvalPrompt:
    """A prompt, and how to score the answer.

    Attributes:
        question: content of the user message.
        reference: reference answer; ``None`` is not scored.
        system: content of the system message; ``None`` or empty for none.
        scorer: registered name of a scorer; ``None`` uses the scorer of the hook.
        chat_template_kwargs: variables of the chat template, such as ``enable_thinking``.
        images: paths of images, as the config names them. They come first, unless the question has a mark ``<image>`` for
            each.
        image_folder: folder of relative paths of images.
    """

    question: str
    reference: str | None = None
    system: str | None = None
    scorer: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    image_folder: str = field(default="", compare=False)

    def conversation(self) -> list[Message]:
        """Return the messages of the prompt.

        Raises:
            DataError: an image cannot be read, or the question has another number of marks.
        """
        system = [Message("system", self.system)] if self.system else []
        folder = Path(self.image_folder)
        images = [
            open_image(str(folder / Path(path).expanduser()), Path(), "image") for path in self.images
        ]
        return [*system, image_message(self.question, images)]


@dataclass(frozen=True, slots=True)
class PromptResult:
    """A prompt and the answer of the model.

    Attributes:
        question: the prompt.
        answer: generated text.
        score: from 0 to 1; ``None`` without a reference.
        stopped: whether the model ended its answer, before the limit.
    """

    question: EvalPrompt
    answer: str
    score: float | None
    stopped: bool

    def to_dict(self) -> dict[str, Any]:
        """Return a record of ``generations.jsonl``, without the step."""
        return {
            "system": self.question.system,
            "question": self.question.question,
            "answer": self.answer,
            "reference": self.question.reference,
            "scorer": self.question.scorer,
            "score": self.score,
            "stopped": self.stopped,
            **(
                {"chat_template_kwargs": dict(kwargs)}
                if (kwargs := self.question.chat_template_kwargs)
                else {}
            ),
            **({"images": list(images)} if (images := self.question.images) else {}),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "PromptResult":
        """Rebuild a result from ``to_dict``."""
        prompt = EvalPrompt(
            record["question"],
            record["reference"],
            record.get("system"),
            record.get("scorer"),
            record.get("chat_template_kwargs", {}),
            tuple(record.get("images", ())),
        )
        return cls(prompt, record["answer"], record["score"], record["stopped"])


def read_eval_prompts(
    source: str | Sequence[str | Mapping[str, Any]], system: str = ""
) -> list[EvalPrompt]:
    """Read the ``eval_prompts`` of a config.

    Args:
        source: a list of questions, each a text or a dict of ``question``, ``reference``, ``system``, ``scorer`` (a
            name) and ``image`` or ``images`` (paths, relative to the file); or a ``.jsonl`` or ``.json`` file of them,
            or ``xft://NAME``. ``val_rows`` has none before the data is prepared (:mod:`xft.evaluation.val_questions`).
        system: system text of questions that have no key ``system``; empty for none.

    Raises:
        ConfigError: The file does not exist, an entry is malformed, an image cannot be read, or the scorer is unknown
            or cannot parse the reference.
    """
    if source == paths.VAL_ROWS:
        return []
    items: Sequence[Any] = _read_file(source) if isinstance(source, str) else source
    folder = str(resolve_file(source).parent) if isinstance(source, str) else ""
    return [_parse(f"eval_prompts[{index}]", item, folder, system) for index, item in enumerate(items)]


def check_images(prompts: Sequence[EvalPrompt], processor: ImageProcessor | None) -> None:
    """Check that the model sees images, if a question has one.

    Raises:
        ConfigError: it does not.
    """
    number = next((number for number, prompt in enumerate(prompts) if prompt.images), None)
    if number is not None and processor is None:
        raise ConfigError(
            key=f"eval_prompts[{number}].image",
            got=prompts[number].images[0],
            expected="no image: the model sees none",
            fix="set model.type='vision_language', or remove the image",
        )


def _parse(key: str, item: object, folder: str, system: str) -> EvalPrompt:
    if isinstance(item, str):
        return EvalPrompt(item, system=system or None)
    if not (
        isinstance(item, Mapping)
        and isinstance(item.get("question"), str)
        and set(item) <= _TYPES.keys()
        and all(value is None or isinstance(value, _TYPES[name]) for name, value in item.items())
    ):
        expected = (
            "a text or dict(question=..., reference=..., system=..., scorer=..., image=..., "
            "chat_template_kwargs=...)"
        )
        raise ConfigError(key=key, got=item, expected=expected)
    # Fails now, not in the middle of a run, if a variable is not one of the template's.
    kwargs = TemplateOptions(
        chat_template_kwargs=item.get("chat_template_kwargs") or {}
    ).chat_template_kwargs
    images = _image_paths(item, key)
    given = {name: value for name, value in item.items() if name not in ("image", "images")}
    if given.get("system") is None:
        given["system"] = system or None
    prompt = EvalPrompt(
        **{**given, "chat_template_kwargs": kwargs, "images": images, "image_folder": folder}
    )
    try:
        prompt.conversation()
    except DataError as error:
        raise ConfigError(f"{key}: {error}", key=f"{key}.image", got=error.got) from error
    if prompt.scorer is not None:
        if prompt.reference is None:
            raise ConfigError(key=f"{key}.reference", got=None, expected="a reference for the scorer")
        # Fails now, not in the middle of a run, if the scorer cannot parse the reference.
        build_component("scorer", prompt.scorer)(Completion("", "stop", 0), prompt.reference)
    return prompt


def _image_paths(item: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return the paths of the images of an entry.

    Raises:
        ConfigError: ``images`` holds something else than paths.
    """
    values = [*([item["image"]] if item.get("image") else []), *(item.get("images") or [])]
    if not all(isinstance(value, str) for value in values):
        raise ConfigError(key=f"{key}.images", got=item["images"], expected="a list of paths")
    return tuple(values)


def generate_answers(
    generator: TextGenerator, prompts: Sequence[EvalPrompt], scorer: Scorer, max_new_tokens: int
) -> list[PromptResult]:
    """Answer all prompts by greedy decoding, those with equal template variables in one batch, and score the answers.

    Args:
        generator: model and template.
        prompts: the prompts.
        scorer: scorer of prompts that do not name one.
        max_new_tokens: maximum number of tokens of an answer.
    """
    answers = answer_in_groups(
        generator,
        [(prompt.conversation(), prompt.chat_template_kwargs) for prompt in prompts],
        max_new_tokens,
    )
    results = []
    for prompt, answer in zip(prompts, answers, strict=True):
        compare = scorer if prompt.scorer is None else build_component("scorer", prompt.scorer)
        score = None if prompt.reference is None else compare(answer, prompt.reference)
        results.append(PromptResult(prompt, answer.text, score, answer.finish_reason == "stop"))
    return results


def answer_in_groups(
    generator: TextGenerator,
    conversations: Sequence[tuple[Messages, Mapping[str, Any]]],
    max_new_tokens: int,
) -> list[Completion]:
    """Answer conversations by greedy decoding, those with equal template variables in one batch.

    Args:
        generator: model and template.
        conversations: each with its variables of the chat template.
        max_new_tokens: maximum number of tokens of an answer.
    """
    groups: list[tuple[Mapping[str, Any], list[int]]] = []
    for index, (_, kwargs) in enumerate(conversations):
        indices = next((indices for known, indices in groups if known == kwargs), None)
        if indices is None:
            groups.append((kwargs, [index]))
        else:
            indices.append(index)
    answers: dict[int, Completion] = {}
    for kwargs, indices in groups:
        bound = generator.with_kwargs(kwargs)
        batch = [conversations[index][0] for index in indices]
        answers.update(zip(indices, bound.answer(batch, max_new_tokens), strict=True))
    return [answers[index] for index in range(len(conversations))]


def sum_scores(results: Sequence[PromptResult]) -> tuple[float, int]:
    """Return the sum of the scores, and the number of scored prompts."""
    scores = [result.score for result in results if result.score is not None]
    return sum(scores), len(scores)


def score_mark(score: float | None) -> str:
    """Return a mark for the terminal: full, no or partial score; empty without a score."""
    return "" if score is None else "✓ " if score >= 1 else "✗ " if score <= 0 else "~ "


def _read_file(path: str) -> list[Any]:
    file = resolve_file(path)
    place = path
    paths.check_regular(file, "eval_prompts")
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix == ".jsonl":
            items = []
            for number, line in enumerate(text.split("\n"), 1):
                place = f"{path}:{number}"
                if line.strip():
                    items.append(json.loads(line))
            return items
        loaded = json.loads(text)
    except OSError as error:
        raise ConfigError(
            f"eval_prompts: cannot read {path} ({error.strerror})", key="eval_prompts", got=path
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"eval_prompts: {path} is not UTF-8 (byte {error.start})", key="eval_prompts", got=path
        ) from error
    except RecursionError as error:
        raise ConfigError(
            f"eval_prompts: {place}: nested too deep", key="eval_prompts", got=path
        ) from error
    except json.JSONDecodeError as error:
        place = place if file.suffix == ".jsonl" else f"{path}:{error.lineno}"
        raise ConfigError(
            f"eval_prompts: {place}: invalid JSON ({error.msg})", key="eval_prompts", got=path
        ) from error
    if not isinstance(loaded, list):
        raise ConfigError(key="eval_prompts", got=type(loaded).__name__, expected=f"a list in {path}")
    return loaded
