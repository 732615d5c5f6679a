"""Mixture-of-experts models on two ranks, under ZeRO-3 and FSDP2, resumed: what one process gives."""

from pathlib import Path
from typing import Any

import pytest
from helpers.mixtures import mixture
from helpers.ranks import run_jobs
from helpers.tiny import comparable_records, records, write_config, write_rows

from xft.cli import main

COMMON = """
hooks.update(sample_generation=None, validation=None)
hooks["checkpoint"].update(interval=2, save_total_limit=9, metric_for_best_model=None)
data.update(packing=False, val_split=0)
training.update(max_steps=4, gradient_accumulation_steps=4 // RANKS)
model.update(router_aux_loss_coef=0.1)
optimizer.update(lr=3e-3)
"""
EXTRA = {
    "full": "adapter = None\n",
    "lora": 'adapter.update(target_modules="all")\n',
    "qlora": 'adapter.update(target_modules="all")\nquantization = dict(type="nf4")\n',
}
STAGES = [
    ("lora", None),
    *((kind, stage) for kind in ("full", "lora", "qlora") for stage in ("zero3", "fsdp2")),
]


@pytest.fixture(scope="module")
def runs(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings of one process and of two ranks; the latter are started once."""
    pytest.importorskip("deepspeed")
    folder = tmp_path_factory.mktemp("mixtures")
    model = folder / "model"
    mixture(
        "qwen3_moe", vocab_size=len(tiny_tokenizer), hidden_size=64, tie_word_embeddings=False
    ).save_pretrained(model)
    tiny_tokenizer.save_pretrained(model)
    rows = write_rows(folder / "rows.jsonl", 16)
    for kind, extra in EXTRA.items():
        for ranks in (1, 2):
            text = (COMMON + extra).replace("RANKS", str(ranks))
            write_config(folder / f"{kind}_{ranks}.py", model, rows, text)
        assert main(["train", str(folder / f"{kind}_1.py"), "--work-dir", str(folder / kind)]) == 0
    (folder / "zero3.json").write_text(
        '{"train_batch_size": "auto", "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}'
    )
    jobs = [
        {
            "config": str(folder / f"{kind}_2.py"),
            "work_dir": str(folder / f"{kind}-{stage}"),
            "deepspeed": str(folder / "zero3.json") if stage == "zero3" else None,
            "fsdp": stage == "fsdp2",
        }
        for kind, stage in STAGES
    ]
    jobs += [
        {
            "config": str(folder / "full_2.py"),
            "work_dir": str(folder / f"{source}-again"),
            "fsdp": True,
            "resume": str(folder / source / "checkpoints" / "step_2"),
        }
        for source in ("full-fsdp2", "full")
    ]
    assert run_jobs(folder, jobs) == [""] * len(jobs)
    return folder


@pytest.mark.parametrize(("kind", "stage"), STAGES)
def test_two_ranks_give_the_losses_of_one_process(runs: Path, kind: str, stage: str | None) -> None:
    """The auxiliary loss too: each micro-batch counts by its targets."""
    single, several = (records(runs / name, "train") for name in (kind, f"{kind}-{stage}"))
    assert len(single) == len(several) == 4
    for one, two in zip(single, several, strict=True):
        for name in ("loss", "aux_loss", "moe/max_load", "grad_norm"):
            assert two[name] == pytest.approx(one[name], rel=1e-5), name


def test_resumed_run_equals_an_uninterrupted_one(runs: Path) -> None:
    checkpoint = runs / "lora" / "checkpoints" / "step_2"
    target = runs / "resumed"
    arguments = ["train", str(runs / "lora_1.py"), "--work-dir", str(target), "--resume", str(checkpoint)]
    assert main(arguments) == 0
    expected = [record for record in comparable_records(runs / "lora") if record["step"] > 2]
    assert [record for record in comparable_records(target) if record["step"] > 2] == expected


@pytest.mark.parametrize("source", ["full-fsdp2", "full"])
def test_experts_saved_one_by_one_are_resumed_in_shards(runs: Path, source: str) -> None:
    """Bit-equal on the same ranks; from one process, sums are taken in another order."""
    expected, resumed = (
        [record for record in comparable_records(runs / name) if record["step"] > 2]
        for name in ("full-fsdp2", f"{source}-again")
    )
    assert len(resumed) == 2
    if source == "full-fsdp2":
        assert resumed == expected
    for one, two in zip(expected, resumed, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
