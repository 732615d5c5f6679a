import ast
import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from helpers.run_folders import write_run

from xft.reporting.run_folder import RunFolder, read_run
from xft.reporting.usage_snippets import command, is_reward_model, python_code, usage_snippets
from xft.utils import paths


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ``xft`` is on the path."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")


def _run(tmp_path: Path, finished: bool = True, reward: bool = False) -> RunFolder:
    folder = write_run(tmp_path / "my run", [1.0], finished=finished)
    if finished:
        config = {"task_type": "SEQ_CLS" if reward else "CAUSAL_LM"}
        (folder / "final" / "adapter_config.json").write_text(json.dumps(config))
    return read_run(folder)


def _code(run: RunFolder) -> dict[str, str]:
    return {snippet.title: snippet.code for snippet in usage_snippets(run)}


def test_commands_quote_the_run_folder_for_a_shell(tmp_path: Path) -> None:
    codes = _code(_run(tmp_path))
    folder = str(tmp_path / "my run")
    assert shlex.split(codes["Chat in the terminal"]) == ["xft", "chat", folder]
    export = shlex.split(codes["Export to a Hugging Face folder"])
    assert export == ["xft", "convert", folder, f"{folder}-merged", "--merge"]
    assert "Resume the run" not in codes


def test_reward_model_is_scored_and_not_chatted_with(tmp_path: Path) -> None:
    codes = _code(_run(tmp_path, reward=True))
    assert shlex.split(codes["Score answers"]) == ["xft", "score", str(tmp_path / "my run"), "ROWS.jsonl"]
    assert not any("chat" in code.split() for code in codes.values())


def test_run_without_model_shows_only_how_to_resume(tmp_path: Path) -> None:
    folder = str(tmp_path / "my run")
    [code] = _code(_run(tmp_path, finished=False)).values()
    expected = ["xft", "train", f"{folder}/config.py", "--work-dir", folder, "--resume", "auto"]
    assert shlex.split(code) == expected


def test_command_without_xft_on_the_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("inspect-data") == "xft inspect-data"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    program, script = shlex.split(command("inspect-data"))
    assert (program, Path(script)) == ("python", paths.PACKAGE.parent / "tools" / "inspect_data.py")
    (tmp_path / "xft").touch()
    for name in ("inspect-data", "serve"):
        assert shlex.split(command(name)) == [str(tmp_path / "xft"), name]


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("adapter_config.json", {"task_type": "SEQ_CLS"}, True),
        ("adapter_config.json", {"task_type": "CAUSAL_LM"}, False),
        ("config.json", {"architectures": ["LlamaForSequenceClassification"]}, True),
        ("config.json", {"architectures": ["LlamaForCausalLM"]}, False),
        ("other.json", {}, False),
    ],
)
def test_is_reward_model_reads_the_config(
    name: str, config: dict[str, object], expected: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps(config))
    assert is_reward_model(tmp_path) is expected


def test_python_code_asks_with_the_system_message_of_the_training(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").touch()
    assert '[{"role": "user", "content": "Who are you?"}]' in python_code(tmp_path)
    (tmp_path / "xft_metadata.json").write_text(json.dumps({"base": "b", "system": "Be brief."}))
    assert 'messages = [{"role": "system", "content": "Be brief."}, {"role": "user"' in python_code(
        tmp_path
    )


@pytest.mark.parametrize("is_adapter", [True, False])
@pytest.mark.parametrize("reward", [True, False])
def test_python_code_parses_and_loads_with_the_class_of_the_model(
    is_adapter: bool, reward: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "it's"
    folder.mkdir()
    (folder / "chat_template.jinja").touch()
    if is_adapter:
        (folder / "adapter_config.json").write_text(json.dumps({"task_type": "SEQ_CLS" if reward else "X"}))
    else:
        kind = "LlamaForSequenceClassification" if reward else "LlamaForCausalLM"
        (folder / "config.json").write_text(json.dumps({"architectures": [kind]}))
    code = python_code(folder)
    names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    texts = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}
    kind = "ForSequenceClassification" if reward else "ForCausalLM"
    assert f"Auto{'Peft' if is_adapter else ''}Model{kind}" in names
    assert str(folder) in texts
    assert ("max_new_tokens" in code) is not reward
