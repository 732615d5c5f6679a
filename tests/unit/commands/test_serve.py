"""``xft serve``."""

import pytest

from xft import cli
from xft.commands import serve

pytest.importorskip("fastapi")

from xft.serving.server import main as server
from xft.serving.server.main import ServeOptions


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServeOptions]:
    """The options of servers, which are not started."""
    calls: list[ServeOptions] = []
    monkeypatch.setattr(server, "serve", calls.append)
    return calls


def test_serve_defaults_of_the_command_are_those_of_the_options(served: list[ServeOptions]) -> None:
    assert cli.main(["serve", "run"]) == 0
    assert served == [ServeOptions("run")]


def test_serve_passes_its_options(served: list[ServeOptions]) -> None:
    argv = [
        "serve",
        "run",
        "--adapter",
        "a",
        "--host",
        "::",
        "--port",
        "0",
        "--name",
        "n",
        "--load-in-bits",
        "4",
    ]
    argv += [
        "--max-batch-size",
        "2",
        "--max-queue-size",
        "3",
        "--max-new-tokens",
        "5",
        "--system",
        "Be brief.",
        "--temperature",
        "0.5",
    ]
    assert cli.main([*argv, "--trust-remote-code"]) == 0
    assert served == [ServeOptions("run", "a", 4, "n", "::", 0, 2, 3, 5, 0.5, "Be brief.", True)]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-batch-size", "0"),
        ("--max-queue-size", "0"),
        ("--max-new-tokens", "0"),
        ("--temperature", "-0.1"),
        ("--temperature", "10.5"),
        ("--temperature", "nan"),
    ],
)
def test_serve_numbers_out_of_range_are_refused(
    served: list[ServeOptions], capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    assert cli.main(["serve", "run", option, value]) == 2
    assert capsys.readouterr().err.startswith(f"error: {option}: got ")
    assert served == []


def test_serve_without_its_libraries_names_them(
    served: list[ServeOptions], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert cli.main(["serve", "run"]) == 2
    assert "fastapi and uvicorn" in capsys.readouterr().err
    assert served == []
