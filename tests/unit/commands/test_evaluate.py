"""``xft eval``."""

import pytest

from xft import cli
from xft.training import evaluate
from xft.training.evaluate import EvalOptions


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[EvalOptions]:
    """The options of evaluations, which are not run."""
    calls: list[EvalOptions] = []
    monkeypatch.setattr(evaluate, "evaluate_run", calls.append)
    return calls


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], EvalOptions("run")),
        (
            [
                "--data",
                "d.jsonl",
                "--format",
                "alpaca",
                "--limit",
                "3",
                "--max-new-tokens",
                "9",
                "--out",
                "o.json",
            ],
            EvalOptions("run", "d.jsonl", "alpaca", [], 3, 9, "o.json"),
        ),
        (["--tasks", "a, b,,"], EvalOptions("run", tasks=["a", "b"])),
        (
            ["--trust-config", "--trust-remote-code"],
            EvalOptions("run", trust_config=True, trust_remote_code=True),
        ),
    ],
)
def test_eval_passes_its_options(
    evaluated: list[EvalOptions], options: list[str], expected: EvalOptions
) -> None:
    assert cli.main(["eval", "run", *options]) == 0
    [call] = evaluated
    assert {**vars(call), "tasks": list(call.tasks)} == {**vars(expected), "tasks": list(expected.tasks)}


@pytest.mark.parametrize("option", ["--limit", "--max-new-tokens"])
def test_eval_numbers_below_1_are_refused(
    evaluated: list[EvalOptions], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["eval", "run", option, "0"]) == 2
    assert f"{option}: got 0; expected at least 1" in capsys.readouterr().err
    assert evaluated == []
