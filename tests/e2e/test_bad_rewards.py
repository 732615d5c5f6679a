"""Rewards and prompts that go wrong: each ends the command with one clear line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xft.cli import main

CONFIG = """
model = dict(type="causal_lm", path={model!r}, dtype="float32")
adapter = dict(type="lora", r=4, lora_alpha=8, lora_dropout=0.0)
data = dict(type="prompt", path={data!r}, max_length=128, val_split=None)
objective = dict(type="grpo")
rewards = dict(mine=dict(type="length"))
rollout = dict(num_generations=2, max_new_tokens=4, reward_timeout=0.5)
training = dict(max_steps=1, micro_batch_size=2, min_steps_per_epoch=0)
optimizer = dict(type="adamw", lr=1e-3)
hooks = {{}}
loggers = {{}}
"""
ROWS: list[dict[str, Any]] = [{"prompt": f"Say {number}", "reference": "none"} for number in range(4)]
BAD = "helpers.bad_rewards"


def reward(**options: Any) -> str:
    return f"rewards.mine={options!r}"


def named(name: str, **options: Any) -> str:
    return reward(type=f"{BAD}.{name}", **options)


REWARDS = {
    "raises": (named("raises"), "rewards.mine"),
    "raises several lines": (named("raises_lines"), "rewards.mine"),
    "raises an error without text": (named("raises_unprintable"), "rewards.mine"),
    "exits": (named("exits"), "rewards.mine"),
    "interrupts": (named("interrupts"), "rewards.mine"),
    "recurses": (named("recurses"), "rewards.mine"),
    "takes too long": (named("takes_long"), "rewards.mine"),
    "returns True as text": (named("returns", value="True"), "rewards.mine"),
    "returns None for all": (named("forgets_to_return"), "rewards"),
    "returns NaN": (named("returns_nan"), "rewards.mine"),
    "returns text": (named("returns", value="1.0"), "rewards.mine"),
    "returns a list": (named("returns", value=[1.0, 2.0]), "rewards.mine"),
    "returns a dict": (named("returns", value={"reward": 1}), "rewards.mine"),
    "returns a complex number": (named("returns_complex"), "rewards.mine"),
    "is async": (named("is_async"), "rewards.mine"),
    "is a generator": (named("is_generator"), "rewards.mine"),
    "takes one argument": (named("one_argument"), "rewards.mine"),
    "batch of wrong length": (named("Batch", value=[1.0, 2.0, 3.0]), "rewards.mine"),
    "batch is None": (named("Batch", value=None), "rewards.mine"),
    "batch is a number": (named("Batch", value=1.0), "rewards.mine"),
    "batch has no score": (named("NoScore"), "rewards.mine"),
    "no module": (reward(type="no_module.reward"), "rewards.mine"),
    "no function": (named("nothing"), "rewards.mine"),
    "not callable": (named("not_callable"), "rewards.mine"),
    "unknown name": (reward(type="lenght"), "rewards.mine"),
    "unknown argument": (reward(type="length", max_words=3), "rewards.mine.max_words"),
    "missing argument": (reward(type="regex"), "rewards.mine"),
    "argument out of range": (reward(type="length", max_tokens=0), "rewards.mine.max_tokens"),
    "wrong pattern": (reward(type="regex", pattern="("), "rewards.mine"),
    "wrong schema": (reward(type="json_schema", schema={"type": "nothing"}), "rewards.mine"),
    "missing column": (reward(type="exact", column="answer"), "rewards.mine"),
    "reference without number": (reward(type="number"), "rewards.mine"),
    "reward model is absent": (reward(type="reward_model", path="runs/absent"), "rewards.mine"),
    "no rewards": ("rewards={'mine': None}", "rewards"),
    "weight of no reward": ("objective.reward_weights={'other': 1.0}", "objective.reward_weights.other"),
    "weights as a list": ("objective.reward_weights=[1.0, 2.0]", "objective.reward_weights"),
    "weight is text": ("objective.reward_weights={'mine': 'high'}", "objective.reward_weights"),
    "one generation": ("rollout.num_generations=1", "rollout.num_generations"),
    "no generations": ("rollout.num_generations=0", "rollout.num_generations"),
    "no tokens": ("rollout.max_new_tokens=0", "rollout.max_new_tokens"),
    "temperature of zero": ("rollout.temperature=0", "rollout.temperature"),
    "no time": ("rollout.reward_timeout=0", "rollout.reward_timeout"),
    "unknown reaction": ("rollout.on_reward_error='ignore'", "rollout.on_reward_error"),
    "unknown engine": ("rollout.engine='vlm'", "rollout.engine"),
    "unknown environment": ("rollout.environment='calculater'", "rollout.environment"),
}
PROMPTS: dict[str, tuple[list[Any], str]] = {
    "empty prompt": ([{"prompt": ""}, *ROWS], "rows.jsonl:1"),
    "empty prompts only": ([{"prompt": ""}] * 2, "data.format"),
    "blank prompt": ([*ROWS, {"prompt": " \n"}], "rows.jsonl:5"),
    "prompt is missing": ([*ROWS, {"question": "Hi"}], "rows.jsonl:5"),
    "prompt is None": ([*ROWS, {"prompt": None}], "rows.jsonl:5"),
    "prompt is a number": ([*ROWS, {"prompt": 3}], "rows.jsonl:5"),
    "prompt without turns": ([*ROWS, {"prompt": []}], "rows.jsonl:5"),
    "prompt of a system message": (
        [*ROWS, {"prompt": [{"role": "system", "content": "Be short."}]}],
        "rows.jsonl:5",
    ),
    "prompt with an unknown role": ([*ROWS, {"prompt": [{"role": "me", "content": "Hi"}]}], "rows.jsonl:5"),
    "prompts longer than the limit": ([{"prompt": "long " * 200}] * 2, "data.max_length"),
    "row is a list": ([*ROWS, [1]], "rows.jsonl:5"),
    "no rows": ([], "rows.jsonl"),
}


def error_of(
    capsys: pytest.CaptureFixture[str], folder: Path, model: Path, rows: list[Any], *changes: str
) -> str:
    data, config = folder / "rows.jsonl", folder / "grpo.py"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config.write_text(CONFIG.format(model=str(model), data=str(data)), encoding="utf-8")
    options = ["--cfg-options", *changes] if changes else []
    assert main(["train", str(config), "--work-dir", str(folder / "run"), *options]) != 0
    written = capsys.readouterr().err
    assert "Traceback" not in written
    _, _, text = written.partition("error: ")
    lines = text.strip().splitlines()
    if "1 mistake" in lines[0]:
        lines = lines[1:]
    (line,) = lines
    assert line.isprintable()
    return line


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("kind", REWARDS)
def test_a_reward_that_goes_wrong_is_one_line(
    kind: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, key = REWARDS[kind]
    line = error_of(capsys, tmp_path, tiny_model, ROWS, change)
    assert key in line


@pytest.mark.parametrize("kind", PROMPTS)
def test_a_prompt_that_goes_wrong_is_one_line(
    kind: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, place = PROMPTS[kind]
    assert place in error_of(capsys, tmp_path, tiny_model, rows)


def test_an_environment_that_hangs_ends_the_process(tiny_model: Path, tmp_path: Path) -> None:
    data, config = tmp_path / "rows.jsonl", tmp_path / "grpo.py"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    config.write_text(CONFIG.format(model=str(tiny_model), data=str(data)), encoding="utf-8")
    changes = [
        f"rollout.environment={BAD}.hanging_step",
        "rollout.environment_timeout=0.5",
        # Of two thousand tokens of a random model, one ends a turn.
        "rollout.num_generations=16",
        "rollout.max_new_tokens=64",
    ]
    command = [sys.executable, "-m", "xft", "train", str(config), "--work-dir", str(tmp_path / "run")]
    tests = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = subprocess.run(
        [*command, "--cfg-options", *changes],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode != 0
    assert f"{BAD}.hanging_step: takes more than 0.5 s (rollout.environment_timeout)" in ended.stderr
