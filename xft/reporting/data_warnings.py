"""Warnings before a run: what its validation rows and its sample questions cannot show."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from xft.data import Mixture, PreparedData, SampleView
from xft.evaluation import EvalPrompt
from xft.run_config.config import RunConfig
from xft.templates import BoundTemplate
from xft.types import IGNORE_INDEX, Sample, Tokenizer
from xft.utils.console import shorten
from xft.utils.paths import SCHEME

MAX_SAMPLES = 20_000
"""Training samples that are compared at most; more are not compared, as reading them would delay the run."""
LABEL_ROWS, LABEL_TOKENS = 5, 8
"""Smallest mean number of rows of a label of a classification, and its largest number of tokens with the end of turn."""


def data_warnings(
    run_config: RunConfig,
    prepared: PreparedData,
    template: BoundTemplate | None,
    tokenizer: Tokenizer,
    eval_prompts: Sequence[EvalPrompt],
) -> Iterator[str]:
    """Yield a sentence for each reason not to trust the numbers of a run."""
    data, source = run_config.data, run_config.eval_prompts
    datasets = list(data.datasets.values()) if isinstance(data, Mixture) else [data]
    shipped_rows = any(path.startswith(SCHEME) for dataset in datasets for path in dataset.paths)
    if isinstance(source, str) and source.startswith(SCHEME) and not shipped_rows:
        yield (
            f"eval_prompts={source} asks about rows that are shipped with xft, and not about these rows: write "
            'questions about them, one {"question": ..., "reference": ...} per line, or set eval_prompts=val_rows'
        )
    if count := prepared.report.rows_without_reasoning:
        yield (
            f"the chat template leaves out the reasoning of the last answer in {count:,} rows, which the model does not "
            "learn: choose another template to train it"
        )
    systems = {dataset.system_text for dataset in datasets if dataset.uses_template}
    if len(systems) > 1 and any(prompt.system is None for prompt in eval_prompts):
        yield (
            "the datasets of the mixture have different system messages (system), and sample questions without a key "
            "system are asked with none: give each its own"
        )
    if template is None or len(prepared.train) > MAX_SAMPLES:
        return
    if prepared.samples_per_example == 1 and data.sample_kind == "samples":
        yield from _known_answers(prepared.train, prepared.val)
    yield from _known_questions(prepared.train, template, tokenizer, eval_prompts)


def _known_answers(train: SampleView, val: SampleView) -> Iterator[str]:
    """Warn if every answer of the validation rows is an answer of a training row too."""
    held_out = {_answer(sample) for sample in val}
    if not held_out:
        return
    known = {_answer(sample) for sample in train}
    if held_out <= known and not _are_labels(known, len(train)):
        yield (
            f"all answers of the {len(val):,} validation rows occur in training rows too: the validation loss shows "
            "recall; data.group_by=COLUMN keeps rows that belong together in one split"
        )


def _are_labels(answers: Collection[tuple[int, ...]], num_rows: int) -> bool:
    """Return whether answers are labels of a classification, which occur in every split: short, and each in many rows."""
    return num_rows >= LABEL_ROWS * len(answers) and max(map(len, answers)) <= LABEL_TOKENS


def _answer(sample: Sample) -> tuple[int, ...]:
    return tuple(sample.input_ids[sample.labels != IGNORE_INDEX].tolist())


def _known_questions(
    train: SampleView, template: BoundTemplate, tokenizer: Tokenizer, eval_prompts: Sequence[EvalPrompt]
) -> Iterator[str]:
    """Warn of sample questions that training rows ask in the same words."""
    prompts = []
    for prompt in eval_prompts:
        text = template.with_kwargs(prompt.chat_template_kwargs).render(
            prompt.conversation(), generation=True
        )
        prompts.append(np.asarray(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32))
    matches: dict[int, int] = {}
    for index, sample in enumerate(train):
        for number, ids in enumerate(prompts):
            if number not in matches and np.array_equal(sample.input_ids[: len(ids)], ids):
                matches[number] = index
    if matches:
        number, index = next(iter(matches.items()))
        yield (
            f"{len(matches)} of {len(prompts)} sample questions are questions of training rows, word for word: they "
            f"show recall; the first is {shorten(eval_prompts[number].question, 60)!r}, {train.origin(index)}"
        )
