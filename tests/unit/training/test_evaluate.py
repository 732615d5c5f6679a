import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import torch
from helpers.generators import EchoGenerator
from helpers.preferences import whole_model

from xft.data import InstructionData
from xft.errors import ConfigError, DataError
from xft.evaluation.heldout import GeneratedAnswer
from xft.models import CausalLMConfig, LoadedModel
from xft.run_config.config import RunConfig
from xft.templates import BoundTemplate
from xft.training import evaluate as module
from xft.training.evaluate import (
    EvalOptions,
    _ask,
    _count_overlap,
    _harness,
    _task_of,
    _write,
    evaluate_run,
)
from xft.utils import console


def test_folder_without_config_raises_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        evaluate_run(EvalOptions(str(tmp_path)))
    assert (error.value.key, error.value.got) == ("RUN", str(tmp_path))


def test_tasks_without_the_harness_raise_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.py").write_text("seed = 0\n")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        evaluate_run(EvalOptions(str(tmp_path), tasks=("arc",)))
    assert error.value.key == "--tasks"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("group: x\ntask: my_task\n", "my_task"),
        ("task: 'my-task.v1'\n", "my-task.v1"),
        ('task:   "t"\n', "t"),
    ],
)
def test_task_of_file_is_its_line_task(text: str, name: str, tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(text)
    assert _task_of(file) == name


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"subtask: x\n"])
def test_task_of_unusable_file_raises_config_error(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        _task_of(file)
    assert (error.value.key, error.value.got) == ("--tasks", str(file))


class FakeTaskManager:
    """Task manager of a harness with two tasks."""

    all_tasks = ("arc_easy", "mmlu")

    def __init__(self, include_path: list[str] | None = None) -> None:
        self.include_path = include_path


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments of ``simple_evaluate`` of a harness that computes nothing; the real one needs data of the hub."""
    options: dict[str, Any] = {}

    def simple_evaluate(**given: Any) -> Any:
        options.update(given)
        return {"results": {"mmlu": {"acc,none": 0.25, "alias": "mmlu"}}}

    attributes: dict[str, dict[str, Any]] = {
        "lm_eval": {"simple_evaluate": simple_evaluate},
        "lm_eval.models": {},
        "lm_eval.models.huggingface": {"HFLM": dict},
        "lm_eval.tasks": {"TaskManager": FakeTaskManager},
    }
    for name, values in attributes.items():
        stub = ModuleType(name)
        vars(stub).update(values)
        monkeypatch.setitem(sys.modules, name, stub)
    return options


def fail_to_count(*_: object) -> int:
    raise DataError("the rows are gone")


LOADED = LoadedModel(whole_model(), None)  # type: ignore[arg-type]


def test_harness_gets_names_and_files_of_tasks(harness: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("task: mmlu\n")
    results = _harness(EvalOptions("run", tasks=("arc_easy", str(file)), limit=5), LOADED)
    assert (harness["tasks"], harness["limit"]) == (["arc_easy", "mmlu"], 5)
    assert harness["task_manager"].include_path == [str(tmp_path)]
    assert harness["model"]["pretrained"] is LOADED.model
    assert results == {"mmlu": {"acc,none": 0.25, "alias": "mmlu"}}


def test_unknown_task_raises_config_error_with_the_nearest_name(harness: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        _harness(EvalOptions("run", tasks=("arc_esy",)), LOADED)
    assert (error.value.key, error.value.got) == ("--tasks", "arc_esy")
    assert "arc_easy" in error.value.fix
    assert harness == {}


def test_write_writes_json_and_reports_an_unwritable_file(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    _write(file, {"validation": {"loss": 1.0}, "dtype": torch.float32})
    assert json.loads(file.read_text()) == {"validation": {"loss": 1.0}, "dtype": "torch.float32"}
    with pytest.raises(ConfigError) as error:
        _write(tmp_path / "none" / "out.json", {})
    assert (error.value.key, error.value.got) == ("--out", str(tmp_path / "none" / "out.json"))


@pytest.mark.parametrize(
    ("count", "expected", "words"),
    [
        (lambda *_: 2, 2, "2 of 3 rows of held.jsonl are training rows"),
        (lambda *_: 0, 0, ""),
        (fail_to_count, None, "not compared with the training rows: the rows are gone"),
    ],
)
def test_rows_that_cannot_be_compared_do_not_lose_the_evaluation(
    monkeypatch: pytest.MonkeyPatch,
    count: Any,
    expected: int | None,
    words: str,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    monkeypatch.setattr(module, "count_trained_rows", count)
    rows = [GeneratedAnswer("q", "a", "a", True, content) for content in range(3)]
    data = InstructionData("rows.jsonl", format=len)  # type: ignore[arg-type]
    run_config, template = RunConfig(CausalLMConfig("x"), data), cast(BoundTemplate, None)
    assert _count_overlap("held.jsonl", rows, run_config, LOADED, template) == expected
    assert [words in line for line in lines] == [True] * bool(words)


def test_an_error_keeps_the_results_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(options: EvalOptions, run_config: object, config: object, measured: dict[str, Any]) -> None:
        measured["validation"] = {"loss": 1.0}
        raise DataError("a task fails")

    monkeypatch.setattr(module, "_measure", measure)
    (tmp_path / "config.py").write_text(
        'model = dict(type="causal_lm", path="x")\ndata = dict(type="instruction", path="rows.jsonl")\n'
    )
    out = tmp_path / "out.json"
    with pytest.raises(DataError):
        evaluate_run(EvalOptions(str(tmp_path), out=str(out)))
    assert json.loads(out.read_text()) == {"complete": False, "validation": {"loss": 1.0}}


def test_ask_without_questions_generates_nothing() -> None:
    data = InstructionData("rows.jsonl", format=len)  # type: ignore[arg-type]
    generator = EchoGenerator()
    # Neither is used without questions.
    loaded, template = cast(LoadedModel, None), cast(BoundTemplate, None)
    assert _ask(RunConfig(CausalLMConfig("x"), data), generator, loaded, template) == []
    assert generator.conversations == []
