"""Mixtures of datasets: proportions, counts, splits."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.rows import decode, write_rows

from xft.data import InstructionData, Mixture, PreferenceData, TextData
from xft.data.config.mixture import UNUSED_REASON
from xft.errors import ConfigError, DataError
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import Row


def numbered(name: str, count: int) -> list[Row]:
    return [{"instruction": f"{name} {number}", "output": "yes"} for number in range(count)]


@pytest.fixture
def mix(tmp_path: Path, chatml: BoundTemplate) -> Callable[..., tuple[Counter[str], Any]]:
    """Prepare a mixture of datasets with these numbers of rows; count the training rows of each."""

    def make(counts: dict[str, int], **arguments: Any) -> tuple[Counter[str], Any]:
        sets = {
            name: InstructionData(
                write_rows(tmp_path, numbered(name, count), f"{name}.jsonl"), val_split=None
            )
            for name, count in counts.items()
        }
        prepared = Mixture(sets, **arguments).prepare(chatml.tokenizer, chatml)
        texts = decode(prepared.train, chatml.tokenizer)
        return Counter(text.partition("user\n")[2].split()[0] for text in texts), prepared

    return make


def test_mixture_without_weights_repeats_rows_max_epochs_times(mix: Callable[..., Any]) -> None:
    counts, prepared = mix({"a": 10, "b": 40}, max_epochs_per_dataset={"a": 2.5})
    assert counts == {"a": 25, "b": 40}
    assert prepared.report.rows_train == prepared.report.rows_read == 50


def test_mixture_with_weights_has_their_proportions_and_counts_unused_rows(mix: Callable[..., Any]) -> None:
    counts, prepared = mix({"a": 10, "b": 40}, weights={"a": 1, "b": 1})
    assert counts == {"a": 10, "b": 10}
    assert prepared.report.rows_dropped == {UNUSED_REASON: 30}
    counts, prepared = mix({"a": 10, "b": 40}, weights={"a": 1, "b": 3}, max_epochs_per_dataset={"a": 4})
    # b gives all of its 40 rows, a third as many come from a: 13 rows, which is one pass and three more.
    assert counts == {"a": 13, "b": 40}
    assert prepared.report.rows_dropped == {}


def test_mixture_prepares_each_dataset_with_its_template_and_val_split(
    tmp_path: Path, byte_tokenizer: Any
) -> None:
    chat = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    sets = {
        "one": InstructionData(write_rows(tmp_path, numbered("a", 20), "a.jsonl"), val_split=4),
        "two": InstructionData(
            write_rows(tmp_path, numbered("b", 20), "b.jsonl"),
            val_split=2,
            template=ChatTemplate(SOURCES["zephyr"]),
        ),
        "raw": TextData(write_rows(tmp_path, [{"text": "once"}], "c.jsonl"), val_split=None),
    }
    prepared = Mixture(sets).prepare(byte_tokenizer, chat)
    texts = decode(prepared.train, byte_tokenizer)
    assert [text.startswith("<|im_start|>user\na") for text in texts] == [True] * 16 + [False] * 19
    assert all(text.startswith("<|user|>\nb") for text in texts[16:34])
    assert len(prepared.val) == 6
    assert prepared.report.rows_read == 41 == prepared.report.rows_train + prepared.report.rows_val


def test_mixture_validation_row_of_another_training_split_raises(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    rows = numbered("a", 20)
    sets = {
        "one": InstructionData(write_rows(tmp_path, rows, "a.jsonl"), val_split=None),
        "two": InstructionData(write_rows(tmp_path, rows[:10], "b.jsonl"), val_split=2),
    }
    with pytest.raises(DataError) as caught:
        Mixture(sets).prepare(chatml.tokenizer, chatml)
    assert (caught.value.key, caught.value.got) == ("data.val_split", 2)
    assert str(caught.value).startswith(f"{tmp_path / 'b.jsonl'}:")


ONE_AND_TWO = {"one": InstructionData("a.jsonl"), "two": InstructionData("b.jsonl")}


@pytest.mark.parametrize(
    ("arguments", "key", "got"),
    [
        ({"datasets": {}}, "data.datasets", {}),
        ({"weights": {"one": 1, "tow": 1}}, "data.weights.tow", "tow"),
        ({"weights": {"one": 1}}, "data.weights", ["one"]),
        ({"weights": {"one": 1, "two": float("nan")}}, "data.weights.two", None),
        ({"max_epochs_per_dataset": {"one": 0}}, "data.max_epochs_per_dataset.one", 0),
        (
            {"datasets": {**ONE_AND_TWO, "pairs": PreferenceData("c.jsonl")}},
            "data.datasets",
            [("pairs", "auto"), ("samples", "auto")],
        ),
        (
            {"datasets": {**ONE_AND_TWO, "three": InstructionData("c.jsonl", packing=False)}},
            "data.datasets",
            [("samples", "auto"), ("samples", False)],
        ),
    ],
)
def test_mixture_invalid_arguments_raise(arguments: dict[str, Any], key: str, got: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Mixture(**{"datasets": ONE_AND_TWO, **arguments})
    assert caught.value.key == key
    assert got is None or caught.value.got == got


def test_mixture_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        Mixture(ONE_AND_TWO, weights={"one": 1, "tow": 1})
    assert "'two'" in str(caught.value)


def test_mixture_error_names_the_dataset_and_keeps_its_parts(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = write_rows(tmp_path, [{"instruction": "q", "output": 3}])
    with pytest.raises(DataError) as caught:
        Mixture({"one": InstructionData(rows, val_split=None)}).prepare(chatml.tokenizer, chatml)
    assert str(caught.value).startswith(f"data.datasets.one: {rows}:1: ")
    assert (caught.value.key, caught.value.got) == ("output", 3)


def test_mixture_lengths_are_the_largest_of_its_datasets() -> None:
    mixture = Mixture(
        {"a": InstructionData("a.jsonl", max_length=64), "b": InstructionData("b.jsonl", max_length=32)}
    )
    assert (mixture.max_length, mixture.pack_length) == (64, 64)
    pairs = Mixture({"a": PreferenceData("a.jsonl", max_length=64)})
    assert (pairs.samples_per_example, pairs.pack_length) == (2, 128)


def test_mixture_has_the_system_text_that_all_its_datasets_have() -> None:
    def mixture(*systems: str) -> Mixture:
        chats: dict[str, Any] = {
            str(number): InstructionData(path="a", system=system) for number, system in enumerate(systems)
        }
        return Mixture({**chats, "text": TextData(path="a")})

    assert mixture("Be brief.", "Be brief.").system_text == "Be brief."
    assert mixture("Be brief.", "").system_text == ""
    assert Mixture({"text": TextData(path="a")}).system_text == ""


def test_mixture_small_share_selects_at_least_one_row(mix: Callable[..., Any]) -> None:
    counts, _ = mix({"a": 3, "b": 40}, weights={"a": 1, "b": 1000})
    assert counts == {"a": 1, "b": 40}


def test_mixture_rows_of_a_fraction_depend_on_content_and_seed(
    mix: Callable[..., Any], chatml: BoundTemplate
) -> None:
    def selected(seed: int) -> list[str]:
        _, prepared = mix({"a": 40}, max_epochs_per_dataset={"a": 0.5}, seed=seed)
        return decode(prepared.train, chatml.tokenizer)

    assert selected(0) == selected(0)
    assert set(selected(0)) != set(selected(1))


def test_mixture_rows_of_two_datasets_count_as_duplicates(tmp_path: Path, chatml: BoundTemplate) -> None:
    sets = {
        "a": InstructionData(write_rows(tmp_path, numbered("a", 5), "a.jsonl"), val_split=None),
        "b": InstructionData(write_rows(tmp_path, numbered("a", 2), "b.jsonl"), val_split=None),
    }
    assert Mixture(sets).prepare(chatml.tokenizer, chatml).report.exact_duplicates == 2
