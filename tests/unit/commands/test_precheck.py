"""Files and first rows are checked before torch is imported."""

import json
from pathlib import Path
from typing import Any

import pytest

from xft.commands import precheck as module
from xft.commands.precheck import check_files, check_hub, check_model_path, precheck
from xft.errors import ConfigError, DataError, ModelError, XftError


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "Hi", "answer": "Hello"}) + "\n", encoding="utf-8")
    return {"model": {"path": str(tmp_path)}, "data": {"type": "instruction", "path": str(rows)}}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"format": "auto"},
        {"format": {"type": "columns", "user": "question", "assistant": "answer"}},
        {"format": "mine.rows"},
        {"format": "alpaca", "on_invalid": "quarantine"},
        {"path": "owner/name"},
    ],
)
def test_rows_that_fit_pass(config: dict[str, Any], changes: dict[str, Any]) -> None:
    check_files({**config, "data": {**config["data"], **changes}})


@pytest.mark.parametrize(
    ("changes", "error", "key"),
    [
        ({"path": "absent.jsonl"}, ConfigError, "data.path"),
        ({"val_split": "absent.jsonl"}, ConfigError, "data.path"),
        ({"format": "alpaca"}, DataError, "instruction"),
        ({"type": "preference"}, DataError, "data.format"),
    ],
)
def test_rows_that_do_not_fit_are_an_error(
    config: dict[str, Any], changes: dict[str, Any], error: type[XftError], key: str
) -> None:
    with pytest.raises(error) as caught:
        check_files({**config, "data": {**config["data"], **changes}})
    assert caught.value.key == key


def test_every_dataset_of_a_mixture_is_checked(config: dict[str, Any]) -> None:
    data = config["data"]
    check_files({**config, "data": {"type": "mixture", "datasets": {"one": data}}})
    wrong = {"type": "mixture", "datasets": {"one": data, "two": {**data, "path": "absent.csv"}}}
    with pytest.raises(ConfigError):
        check_files({**config, "data": wrong})
    removed = {"type": "mixture", "datasets": {"one": data, "two": None}}
    check_files({**config, "data": removed})
    check_hub({**config, "data": removed})


def test_a_dataset_of_the_user_is_left_to_its_class(config: dict[str, Any]) -> None:
    own = {**config, "data": {"type": "mine.Rows", "address": "somewhere"}}
    assert not check_files(own)
    check_hub(own)


@pytest.mark.parametrize("spec", ["auto", {"type": "columns", "user": "question", "assistant": "answer"}])
def test_columns_that_are_not_read_are_returned(config: dict[str, Any], spec: object) -> None:
    row = {"question": "Hi", "answer": "Hello", "source": "web", "group": "a"}
    Path(config["data"]["path"]).write_text(json.dumps(row) + "\n", encoding="utf-8")
    data = {**config["data"], "format": spec, "group_by": "group"}
    assert check_files({**config, "data": data}) == {"source": 1}


def test_every_sampled_row_must_fit_the_format(config: dict[str, Any]) -> None:
    file = Path(config["data"]["path"])
    file.write_text(file.read_text() * 30 + json.dumps({"question": "Hi", "answer": None}) + "\n")
    data = {**config["data"], "format": {"type": "columns", "user": "question", "assistant": "answer"}}
    with pytest.raises(DataError) as caught:
        check_files({**config, "data": data})
    assert str(caught.value).startswith(f"{file}:31: field answer: is null")
    check_files({**config, "data": {**data, "on_invalid": "quarantine"}})


def test_a_file_of_questions_must_exist(config: dict[str, Any]) -> None:
    check_files({**config, "eval_prompts": "xft://facts_questions.jsonl"})
    check_files({**config, "eval_prompts": "val_rows"})
    with pytest.raises(ConfigError) as caught:
        check_files({**config, "eval_prompts": "absent.jsonl"})
    assert (caught.value.key, caught.value.got) == ("eval_prompts", "absent.jsonl, which is no file")


@pytest.mark.parametrize("path", ["xft://smollm2-135m-instruct", "owner/name", "."])
def test_a_model_may_be_bundled_of_the_hub_or_a_folder(path: str) -> None:
    check_model_path({"path": path})


@pytest.mark.parametrize("path", ["absent", "./absent", "/absent/model", "a/b/c", "tests/absent"])
def test_a_model_folder_must_exist(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        check_model_path({"path": path})
    assert caught.value.key == "model.path"


def test_the_hub_is_asked_for_what_it_has(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str]] = []
    monkeypatch.setattr(module, "check_access", lambda *arguments: asked.append(arguments))
    check_hub(config)
    assert asked == []
    check_hub(
        {"model": {"path": "a/b"}, "data": {**config["data"], "path": [config["data"]["path"], "c/d:e"]}}
    )
    assert asked == [("a/b", "model", "model.path"), ("c/d:e", "dataset", "data.path")]


def test_without_a_snapshot_the_full_check_comes_first(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "quick_check", lambda config, where: False)
    precheck({**config, "data": 5}, "config")
