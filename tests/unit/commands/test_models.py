"""``xft chat``, ``score`` and ``convert``."""

from pathlib import Path
from typing import Any

import pytest

from xft import cli, export, serving
from xft.evaluation import reward_scoring
from xft.export import push
from xft.export.verify import Comparison
from xft.serving import Session


class FakeSession(Session):
    """A session of a model that answers with its name and the prompt in capitals."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ask_once(self, prompt: str) -> str:
        return f"{self.name} {prompt.upper()}"

    def without_adapter(self) -> Session:
        return FakeSession("base")


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments that sessions are opened with."""
    calls: list[dict[str, Any]] = []

    def open_session(path: str, **options: Any) -> Session:
        calls.append({"path": path, **options})
        return FakeSession("tuned")

    monkeypatch.setattr(serving, "open_session", open_session)
    return calls


def test_chat_with_prompts_answers_each_in_a_new_conversation(
    sessions: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["chat", "run", "--system", "Be brief.", "--load-in-bits", "4", "--prompt", "hi", "bye"]
    assert cli.main([*argv, "--chat-template-kwargs", '{"enable_thinking": false}']) == 0
    assert capsys.readouterr().out == "tuned HI\ntuned BYE\n"
    assert sessions == [
        {
            "path": "run",
            "adapter": None,
            "bits": 4,
            "system": "Be brief.",
            "max_new_tokens": 512,
            "temperature": 0.0,
            "trust_remote_code": False,
            "chat_template_kwargs": {"enable_thinking": False},
        }
    ]


@pytest.mark.parametrize("text", ["[1]", "enable_thinking=false"])
def test_chat_template_kwargs_that_are_no_json_object_are_refused(
    text: str, sessions: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["chat", "run", "--chat-template-kwargs", text])
    assert "--chat-template-kwargs" in capsys.readouterr().err
    assert sessions == []


@pytest.mark.usefixtures("sessions")
def test_chat_compare_base_prints_both_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["chat", "run", "--compare-base", "--prompt", "hi"]) == 0
    assert capsys.readouterr().out == "base>  base HI\ntuned> tuned HI\n"


@pytest.mark.usefixtures("sessions")
@pytest.mark.parametrize(("options", "has_base"), [([], False), (["--compare-base"], True)])
def test_chat_without_prompts_starts_the_loop(
    monkeypatch: pytest.MonkeyPatch, options: list[str], has_base: bool
) -> None:
    loops: list[bool] = []
    monkeypatch.setattr(serving, "chat_loop", lambda session, base: loops.append(base is not None))
    assert cli.main(["chat", "run", *options]) == 0
    assert loops == [has_base]


@pytest.mark.parametrize("temperature", ["-0.5", "nan", "inf"])
def test_chat_temperature_without_a_meaning_is_refused(
    sessions: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], temperature: str
) -> None:
    assert cli.main(["chat", "run", "--temperature", temperature]) == 2
    assert "--temperature" in capsys.readouterr().err
    assert sessions == []


def test_score_passes_its_options_and_prints_each_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []

    def score_rows(path: str, rows: str, **options: Any) -> list[str]:
        calls.append((path, rows, options))
        return ["a", "b"]

    monkeypatch.setattr(reward_scoring, "score_rows", score_rows)
    assert (
        cli.main(["score", "run", "r.jsonl", "--format", "kto", "--out", "o", "--load-in-bits", "8"]) == 0
    )
    assert capsys.readouterr().out == "a\nb\n"
    options = {"format": "kto", "out": "o", "bits": 8, "trust_remote_code": False}
    assert calls == [("run", "r.jsonl", options)]


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The calls of convert and of the functions of push, in order."""
    calls: list[tuple[str, Any]] = []

    def convert(source: str, out: str, **options: Any) -> Comparison:
        calls.append(("convert", (source, out, options)))
        return Comparison(max_difference=0.5, max_logit=9.0, agreement=1.0, kl=0.0)

    def upload(folder: Path, name: str, public: bool) -> str:
        calls.append(("push", (folder, name, public)))
        return "https://hub/owner/name"

    def check_push(name: str, source: str, merged: bool) -> None:
        calls.append(("check_push", (name, source, merged)))

    monkeypatch.setattr(export, "convert", convert)
    monkeypatch.setattr(push, "push", upload)
    monkeypatch.setattr(push, "check_push", check_push)
    return calls


@pytest.mark.parametrize(
    ("options", "changed", "kind"),
    [
        ([], {}, "model"),
        (
            ["--merge", "--dtype", "float16", "--max-shard-size", "1GB"],
            {"merged": True, "dtype": "float16", "max_shard_size": "1GB"},
            "merged model",
        ),
        (["--gguf"], {"gguf": "q8_0"}, "GGUF file"),
        (["--gguf", "f16", "--trust-remote-code"], {"gguf": "f16", "trust_remote_code": True}, "GGUF file"),
    ],
)
def test_convert_passes_its_options_and_reports_the_comparison(
    conversions: list[tuple[str, Any]],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    changed: dict[str, Any],
    kind: str,
) -> None:
    assert cli.main(["convert", "run", "out", *options]) == 0
    expected = {
        "merged": False,
        "dtype": None,
        "max_shard_size": "5GB",
        "trust_remote_code": False,
        "gguf": None,
        "layout": "original",
    }
    assert conversions == [("convert", ("run", "out", expected | changed))]
    line = capsys.readouterr().out
    assert line.startswith(f"wrote the {kind} to out; ")
    assert "it predicts the same next token at 100% of positions" in line


@pytest.mark.parametrize(("option", "merged"), [(None, False), ("--merge", True), ("--gguf", True)])
def test_convert_push_is_checked_before_the_conversion(
    conversions: list[tuple[str, Any]],
    capsys: pytest.CaptureFixture[str],
    option: str | None,
    merged: bool,
) -> None:
    argv = ["convert", "run", "out", "--push", "owner/name", *([option] if option else []), "--public"]
    assert cli.main(argv) == 0
    assert [name for name, _ in conversions] == ["check_push", "convert", "push"]
    assert conversions[0][1] == ("owner/name", "run", merged)
    assert conversions[2][1] == (Path("out"), "owner/name", True)
    assert capsys.readouterr().out.endswith("pushed to https://hub/owner/name\n")
