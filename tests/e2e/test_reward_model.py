"""A reward model through the commands: trained, resumed, exported, scored with, and loaded without us."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.preferences import PAIR_ROWS, write_json_lines, write_reward_config
from helpers.ranks import run_jobs
from helpers.tiny import records
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from xft.cli import main
from xft.export import convert

Scores = list[tuple[float, float]]


def _scored(path: Path, rows: Path, out: Path) -> Scores:
    """What ``xft score`` writes."""
    assert main(["score", str(path), str(rows), "--out", str(out)]) == 0
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [each["line"] for each in found] == list(range(1, 25))
    return [(each["chosen"], each["rejected"]) for each in found]


def _plain(model: Any, tokenizer: Any) -> Scores:
    """The scores by transformers alone: a padded batch of the conversations of all rows."""
    turns = [
        [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[side]}]
        for row in PAIR_ROWS
        for side in ("chosen", "rejected")
    ]
    batch = tokenizer.apply_chat_template(turns, return_tensors="pt", padding=True, return_dict=True)
    with torch.no_grad():
        scores = model.eval()(**batch).logits[:, 0].float().tolist()
    return list(zip(scores[::2], scores[1::2], strict=True))


def test_it_learns_and_is_validated(reward_run: Path) -> None:
    train, val = (records(reward_run, each) for each in ("train", "val"))
    assert train[-1]["loss"] < train[0]["loss"]
    assert val[-1]["rewards/margins"] > val[0]["rewards/margins"]
    assert val[-1]["rewards/accuracies"] == 1.0
    names = {name for name in val[-1] if "/" in name}
    assert names == {
        *("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"),
        *("length/chosen", "length/rejected"),
    }
    assert "perplexity" not in val[-1]


def test_a_resumed_run_is_bit_equal(reward_run: Path, tmp_path: Path) -> None:
    config, again = reward_run / "config.py", tmp_path / "again"
    checkpoint = reward_run / "checkpoints" / "step_4"
    assert main(["train", str(config), "--work-dir", str(again), "--resume", str(checkpoint)]) == 0
    whole, resumed = (
        [record["loss"] for record in records(run, "train") if record["step"] > 4]
        for run in (reward_run, again)
    )
    assert len(whole) > 4
    assert resumed == whole
    weights = [(run / "final" / "adapter_model.safetensors").read_bytes() for run in (reward_run, again)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    "method", ["", "adapter = None\noptimizer.update(lr=1e-3)\n"], ids=["lora", "full"]
)
def test_ranks_of_fsdp2_train_and_resume_it_as_one_process(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    """The head has one row: the second rank has none of it, and none of its optimizer state."""
    extra = f"{method}hooks['checkpoint'].update(interval=4, save_total_limit=9)\n"
    config = write_reward_config(tmp_path, tiny_model, extra)
    assert main(["train", str(config), "--work-dir", str(tmp_path / "one")]) == 0
    write_reward_config(tmp_path, tiny_model, f"{extra}training.update(gradient_accumulation_steps=1)\n")
    job = {"config": str(config), "deepspeed": None, "fsdp": True}
    step = str(tmp_path / "two" / "checkpoints" / "step_4")
    jobs = [
        {**job, "work_dir": str(tmp_path / "two"), "resume": None},
        {**job, "work_dir": str(tmp_path / "again"), "resume": step},
    ]
    assert run_jobs(tmp_path, jobs) == ["", ""]
    one, two, again = (
        [record["loss"] for record in records(tmp_path / run, "train") if record["step"] > 4]
        for run in ("one", "two", "again")
    )
    assert len(one) > 4
    assert two == pytest.approx(one, rel=1e-4)
    assert again == two


def test_the_adapter_and_the_merged_model_score_alike_with_and_without_us(
    reward_run: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = reward_run.parent / "rows.jsonl"
    expected = _scored(reward_run, rows, tmp_path / "adapter.jsonl")
    assert "24 rows: scores from " in capsys.readouterr().out
    assert max(abs(c - r) for c, r in expected) > 0.1
    assert "score.weight" in " ".join(load_file(reward_run / "final" / "adapter_model.safetensors"))

    tokenizer = AutoTokenizer.from_pretrained(reward_run / "final")
    base = AutoModelForSequenceClassification.from_pretrained(
        tiny_model, num_labels=1, pad_token_id=tokenizer.pad_token_id
    )
    adapted = PeftModel.from_pretrained(base, str(reward_run / "final"))
    assert _plain(adapted, tokenizer) == [pytest.approx(each, abs=1e-4) for each in expected]

    convert(str(reward_run), str(tmp_path / "merged"), merged=True, subprocess=False)
    said = capsys.readouterr().out
    assert "merged vs. adapter over 6 built-in answers: KL " in said
    assert "same preference in 100.0% of pairs" in said
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert merged.config.num_labels == 1
    plain = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert _plain(merged, plain) == [pytest.approx(each, abs=1e-4) for each in expected]
    again = _scored(tmp_path / "merged", rows, tmp_path / "merged.jsonl")
    assert again == [pytest.approx(each, abs=1e-4) for each in expected]
    assert not (tmp_path / "merged" / "generation_config.json").exists()


@pytest.mark.parametrize(
    "how",
    ["adapter = None\n", "model.update(dtype='bfloat16')\nquantization = dict(type='nf4')\n"],
)
def test_all_weights_and_a_quantised_base(how: str, tmp_path: Path, tiny_model: Path) -> None:
    extra = f"{how}training.update(max_steps=3)\n"
    config, run = write_reward_config(tmp_path, tiny_model, extra), tmp_path / "run"
    assert main(["train", str(config), "--work-dir", str(run)]) == 0
    whole = "adapter = None" in how
    convert(str(run), str(tmp_path / "out"), merged=not whole, subprocess=False)
    rows = tmp_path / "rows.jsonl"
    expected = _scored(run, rows, tmp_path / "run.jsonl")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", dtype=torch.float32)
    got = _plain(model, AutoTokenizer.from_pretrained(tmp_path / "out"))
    # In bf16 every layer rounds to eight bits, in another place where the update is merged.
    spread = max(max(each) for each in expected) - min(min(each) for each in expected)
    assert got == [pytest.approx(each, abs=1e-5 if whole else 0.1 * spread) for each in expected]


def test_score_prints_the_score_of_rows_of_any_form(
    reward_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"role": "user", "content": "Say number 3"}
    turns = [asked, {"role": "assistant", "content": "Number 3."}]
    rows = write_json_lines(
        tmp_path / "mixed.jsonl",
        [
            PAIR_ROWS[3],
            {"messages": turns},
            {"prompt": "Say number 3", "completion": "Number 3."},
            {"instruction": "Say number 3", "output": "Number 3."},
        ],
    )
    capsys.readouterr()
    assert main(["score", str(reward_run), str(rows)]) == 0
    lines = capsys.readouterr().out.splitlines()
    score = lines[0].split("chosen ")[1].split()[0]
    assert lines[0].startswith(f"{rows}:1  chosen ")
    assert lines[0].endswith(" ✓")
    assert lines[1:4] == [f"{rows}:{n}  score {score}" for n in (2, 3, 4)]
    assert lines[4].startswith("4 rows: scores from ")
    assert "accuracy 100.0% (1 of 1 pairs), mean margin " in lines[4]


def test_what_cannot_be_is_refused_in_one_line(
    reward_run: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_reward_config(tmp_path, tiny_model)
    rows, run = str(tmp_path / "rows.jsonl"), ["--work-dir", str(tmp_path / "run")]
    cases = [
        (["train", "model.type=causal_lm"], 2, "model.type: got 'causal_lm'; expected reward_model"),
        (["train", "objective.type=orpo"], 2, "objective"),
        (["train", "eval_prompts=['Who?']"], 2, "eval_prompts: a reward model scores answers"),
        (["chat", str(reward_run), "--prompt", "Hi"], 4, "is a reward model, which scores answers"),
        (["score", str(tiny_model), rows], 4, "is a language model, which gives answers and no scores"),
        (["score", str(reward_run), str(tmp_path / "none.jsonl")], 2, "none.jsonl"),
        (["score", str(reward_run), rows, "--out", rows], 2, "exists; choose another file"),
        (["score", str(reward_run), rows, "--format", "preferense"], 2, "did you mean 'preference'"),
    ]
    for (command, *rest), code, message in cases:
        arguments = [str(config), *run, "--cfg-options", *rest] if command == "train" else rest
        assert main([command, *arguments]) == code, (command, rest)
        error = capsys.readouterr().err
        assert message in error
        assert error.strip().count("\n") <= (2 if "orpo" in str(rest) else 0)
    sft = write_reward_config(tmp_path, tiny_model, "objective = 'orpo'\n")
    assert main(["train", str(sft), *run]) == 2
    assert "model.type: got 'reward_model'; expected causal_lm" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
