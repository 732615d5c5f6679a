"""The shipped configs as they are: on tiny models of their classes, and on the real small one."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import ROOT, SHARED, records, save_tiny, write_rows
from transformers import AutoModelForCausalLM

from xft.cli import main
from xft.export import convert

CONFIGS = ROOT / "configs"


@pytest.mark.parametrize(
    ("config", "family", "tokenizer"),
    [
        ("internlm3_8b", "internlm3", "internlm2_tokenizer"),
        ("qwen3_8b", "qwen3", "qwen3_tokenizer"),
        ("llama3_1_8b", "llama", "llama3_tokenizer"),
    ],
)
def test_a_config_for_a_large_model_runs_with_only_its_paths_overridden(
    config: str, family: str, tokenizer: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = save_tiny(tmp_path / "model", family, request.getfixturevalue(tokenizer))
    rows = write_rows(tmp_path / "rows.jsonl", 30)
    run = tmp_path / "run"
    path = f"model.path={model}"
    assert main(["train", config, "--work-dir", str(run), "--data", str(rows), "--cfg-options", path]) == 0
    train = records(run, "train")
    assert len(train) >= 3
    assert (run / "final" / "adapter_model.safetensors").is_file()
    assert main(["chat", str(run), "--prompt", "Hi", "--max-new-tokens", "2"]) == 0
    convert(str(run), str(tmp_path / "out"), merged=True, subprocess=False)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.model_type == family


@pytest.mark.parametrize("objective", ["orpo", "dpo"])
def test_a_config_for_pairs_runs_on_a_large_model_with_only_its_paths_overridden(
    objective: str, tmp_path: Path, internlm2_tokenizer: Any
) -> None:
    model = save_tiny(tmp_path / "model", "internlm3", internlm2_tokenizer)
    rows = tmp_path / "pairs.jsonl"
    pairs = [{"prompt": f"Say {n}", "chosen": f"{n}.", "rejected": f"No {n}."} for n in range(30)]
    rows.write_text("".join(json.dumps(each) + "\n" for each in pairs), encoding="utf-8")
    options = [f"model.path={model}", f"data.path={rows}", "hooks.verify.mode=in_process"]
    run = tmp_path / "run"
    config = CONFIGS / f"internlm_{objective}.py"
    assert main(["train", str(config), "--work-dir", str(run), "--cfg-options", *options]) == 0
    train = records(run, "train")
    assert len(train) >= 3
    assert {"rewards/margins", "rewards/accuracies", "logps/chosen"} <= train[-1].keys()
    assert (run / "final" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("config", ["smollm2_orpo", "smollm2_dpo", "smollm2_kto"])
def test_the_real_small_model_learns_from_the_shipped_pairs(
    config: str, smollm2_tokenizer: Any, tmp_path: Path
) -> None:
    """A few steps: what is preferred is told from what is not better than before."""
    options = ["training.max_steps=3", "hooks.sample_generation=none", "hooks.checkpoint.interval=100"]
    options += ["hooks.validation.interval=3", "hooks.verify=none", "data.val_split=2"]
    run = tmp_path / "run"
    file = str(CONFIGS / f"{config}.py")
    assert main(["train", file, "--work-dir", str(run), "--cfg-options", *options]) == 0
    before, *_, after = records(run, "val")
    assert before["step"] == 0
    assert after["loss"] < before["loss"]
    assert after["rewards/chosen"] - after["rewards/rejected"] > (
        before["rewards/chosen"] - before["rewards/rejected"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("config", ["smollm2_lora", "smollm2_qlora", "smollm2_full"])
def test_the_real_small_model_learns(config: str, smollm2_tokenizer: Any, tmp_path: Path) -> None:
    """Four steps of each way of tuning: the validation loss falls by a fifth at least."""
    options = [
        "training.max_steps=4",
        "hooks.sample_generation=none",
        "hooks.checkpoint.interval=100",
        "hooks.checkpoint.save_optimizer_state=False",  # 1 GB for all weights
        "hooks.validation.interval=4",
    ]
    run = tmp_path / "run"
    assert (
        main(["train", str(CONFIGS / f"{config}.py"), "--work-dir", str(run), "--cfg-options", *options])
        == 0
    )
    before, *_, after = records(run, "val")
    assert before["step"] == 0
    assert after["loss"] < 0.8 * before["loss"]


@pytest.mark.slow
def test_continued_pretraining_lowers_the_perplexity_of_held_out_real_text(
    smollm2_tokenizer: Any, tmp_path: Path
) -> None:
    text = SHARED / "data" / "wiki_demo.txt"
    if not text.is_file():
        pytest.skip("wiki_demo.txt is absent: no real data stand beside this checkout")
    few = tmp_path / "few.txt"
    few.write_text(
        "\n".join(line[:700] for line in text.read_text(encoding="utf-8").splitlines()), encoding="utf-8"
    )
    options = [
        f"data.path={few}",
        "training.max_steps=6",
        "data.val_split=0.2",
        "hooks.checkpoint.interval=100",
        "hooks.validation.interval=6",
    ]
    run = tmp_path / "run"
    config = CONFIGS / "smollm2_pretrain.py"
    assert main(["train", str(config), "--work-dir", str(run), "--cfg-options", *options]) == 0
    before, *_, after = records(run, "val")
    assert after["perplexity"] < before["perplexity"]
