"""Mistakes of the user: their exit codes, and the nearest known names."""

import pickle
from typing import Any

import pytest

from xft import errors
from xft.errors import ConfigError, XftError, did_you_mean, is_out_of_memory, short_repr


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("unable to mmap 269060552 bytes from file <x>: Cannot allocate memory (12)"), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (OSError(28, "No space left on device"), False),
        (ConfigError("data.path: out of memory.jsonl does not exist"), False),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_exhausted_memory_is_known_by_type_or_text_also_as_a_cause(
    error: Exception, expected: bool
) -> None:
    assert is_out_of_memory(error) is expected
    outer = XftError("model: cannot be loaded")
    outer.__cause__ = error
    assert is_out_of_memory(outer) is expected


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("XftError", 1),
        ("ConfigError", 2),
        ("DataError", 3),
        ("EmptyAnswerError", 3),
        ("IdenticalAnswersError", 3),
        ("TemplateError", 3),
        ("ModelError", 4),
        ("CheckpointError", 5),
        ("TrainingError", 6),
    ],
)
def test_each_mistake_has_its_exit_code(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, XftError)
    assert kind.exit_code == code
    assert kind("text").exit_code == code


def test_every_mistake_is_in_the_table_above() -> None:
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert kinds == {
        "XftError",
        "ConfigError",
        "DataError",
        "EmptyAnswerError",
        "IdenticalAnswersError",
        "TemplateError",
        "ModelError",
        "CheckpointError",
        "TrainingError",
    }


def test_a_template_mistake_is_a_data_mistake() -> None:
    assert issubclass(errors.TemplateError, errors.DataError)


@pytest.mark.parametrize(
    ("name", "known", "phrase"),
    [
        ("max_lenght", ["max_length", "packing"], "did you mean 'max_length'?"),
        ("optimiser", ["optimizer", "model"], "did you mean 'optimizer'?"),
        ("zzz", ["b", "a", "b"], "known: 'a', 'b'"),
        ("zzz", [], "nothing is accepted here"),
        ("", ["a"], "known: 'a'"),
    ],
)
def test_the_nearest_names_are_said(name: str, known: list[str], phrase: str) -> None:
    assert did_you_mean(name, known) == phrase


def test_several_near_names_are_joined_by_or_nearest_first() -> None:
    assert did_you_mean("hook", ["loggers", "hooks", "hoook"]) in (
        "did you mean 'hooks' or 'hoook'?",
        "did you mean 'hoook' or 'hooks'?",
    )
    assert (
        did_you_mean("alpaca_map", ["alpaca_maps", "alpaca"]) == "did you mean 'alpaca_maps' or 'alpaca'?"
    )


def test_error_from_parts_builds_message_and_keeps_parts() -> None:
    error = errors.ConfigError(key="training.epochs", got=0, expected="more than 0", fix="raise it")
    assert str(error) == "training.epochs: got 0; expected more than 0. Raise it"
    assert (error.key, error.got, error.expected, error.fix) == (
        "training.epochs",
        0,
        "more than 0",
        "raise it",
    )


def test_error_survives_pickling_with_its_parts() -> None:
    error = pickle.loads(pickle.dumps(errors.DataError("broken", key="row", got=[1])))
    assert (str(error), error.key, error.got) == ("broken", "row", [1])


def test_prefixed_keeps_class_and_parts() -> None:
    error = errors.EmptyAnswerError(key="output", got="", expected="text", fix="delete the row")
    copy = error.prefixed("rows.jsonl:3")
    assert type(copy) is errors.EmptyAnswerError
    assert str(copy) == f"rows.jsonl:3: {error}"
    assert (copy.key, copy.got, copy.expected, copy.fix) == ("output", "", "text", "delete the row")


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000,
        "a\nb",
        pytest.param(10**5000, id="long"),
        [[["deep" * 99] * 50] * 50] * 50,
        {"a": {"b": {"c": {"d": {"e": 1}}}}},
        b"\0",
    ],
)
def test_short_repr_of_any_value_is_one_short_line(value: Any) -> None:
    text = short_repr(value)
    assert "\n" not in text
    assert len(text) <= 720
    assert text in str(ConfigError(key="k", got=value, expected="less"))
