"""Ranks that compute each batch together (Ulysses) give what one process gives."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from helpers.preferences import PAIR_ROWS, write_json_lines
from helpers.ranks import run_jobs
from helpers.tiny import records, write_config, write_rows

from xft.cli import main

COMMON = """
hooks.update(sample_generation=dict(type="sample_generation", max_new_tokens=4), progress=dict(type="progress", interval=8))
hooks["checkpoint"].update(interval=2, save_total_limit=9, metric_for_best_model=None)
hooks["validation"].update(interval=2)
data.update(val_split=3, max_length=100)
training.update(max_steps=4, gradient_accumulation_steps=4 // GROUPS)
"""
PAIRS = 'data.update(type="preference", format="preference")\n'
EXTRA = {
    "lora": "optimizer.update(lr=1e-3)\n",
    "full": "adapter = None\nmodel.update(gradient_checkpointing=True)\noptimizer.update(lr=1e-3, weight_decay=0.1)\n",
    "dpo": PAIRS + 'objective = dict(type="dpo", nll_weight=0.5)\n',
    "cached": PAIRS
    + 'objective = dict(type="dpo", reference="frozen_copy", precompute_ref_log_probs=True)\nadapter = None\n',
    "kto": 'data.update(type="unpaired_preference", format="kto")\nobjective = dict(type="kto")\n',
    "reward": PAIRS
    + 'model.update(type="reward_model")\nobjective = dict(type="reward")\neval_prompts = []\n',
}
RUNS = [("lora", 2), ("lora", 4), ("full", 2), ("dpo", 4), ("cached", 2), ("kto", 2), ("reward", 4)]
SHARDED = [("lora", 2), ("dpo", 2), ("cached", 2)]
"""Under ZeRO-3 too."""
FSDP2 = [("full", 2), ("dpo", 4), ("cached", 2), ("kto", 2), ("reward", 1)]
"""Under FSDP2 too; the last one without sequence parallelism, on four ranks."""
NAMES = [
    *((kind, f"{kind}-{size}") for kind, size in RUNS),
    *((kind, f"{kind}-{size}zero3") for kind, size in SHARDED),
    *((kind, f"{kind}-{size}fsdp2") for kind, size in FSDP2),
]


class Runs:
    """Trainings of one process, and of four ranks in groups, by name."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.errors: dict[str, str] = {}
        pairs = write_json_lines(folder / "pairs.jsonl", PAIR_ROWS)
        judged = write_json_lines(
            folder / "judged.jsonl",
            ({"prompt": each["prompt"], "completion": each[side], "label": side == "chosen"}
             for each in PAIR_ROWS for side in ("chosen", "rejected")),
        )  # fmt: skip
        rows = {"kto": judged, "lora": write_rows(folder / "rows.jsonl", 60)}
        rows |= {"full": rows["lora"]}
        for kind, extra in EXTRA.items():
            for groups in (1, 2, 4):
                text = (COMMON + extra).replace("GROUPS", str(groups))
                write_config(self.config(kind, groups), model, rows.get(kind, pairs), text)

    def config(self, kind: str, groups: int) -> Path:
        return self.folder / f"{kind}_{groups}.py"

    def job(self, kind: str, size: int, suffix: str = "", **more: Any) -> dict[str, Any]:
        return {
            "config": str(self.config(kind, 4 // size)),
            "work_dir": str(self.folder / f"{kind}-{size}{suffix}"),
            "sequence_parallel_size": size,
            **more,
        }


@pytest.fixture(scope="module")
def runs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All trainings of this file: those of four ranks are started once."""
    folder = tmp_path_factory.mktemp("sequence")
    made = Runs(folder, tiny_model)
    for kind in EXTRA:
        assert main(["train", str(made.config(kind, 1)), "--work-dir", str(folder / kind)]) == 0
    jobs = [made.job(kind, size) for kind, size in RUNS]
    # Layers that stay gathered, while the adapter is off too.
    gathered = {"dpo": ["strategy.reshard_after_forward=False"]}
    jobs += [
        made.job(kind, size, "fsdp2", fsdp=True, overrides=gathered.get(kind, [])) for kind, size in FSDP2
    ]
    if find_spec("deepspeed") is not None:
        jobs += [made.job(kind, size, "zero3", deepspeed="zero3") for kind, size in SHARDED]
    found = run_jobs(folder, jobs, ranks=4)
    made.errors = {Path(job["work_dir"]).name: each for job, each in zip(jobs, found, strict=True)}
    return made


def figures(run: Path, split: str, key: str) -> list[float]:
    return [each[key] for each in records(run, split) if key in each]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_ranks_together_give_the_numbers_of_one_process(runs: Runs, kind: str, name: str) -> None:
    """In fp32, packed, with samples that lie across the cuts and rows that ranks cannot share evenly."""
    if name.endswith("zero3"):
        pytest.importorskip("deepspeed")
    assert runs.errors[name] == ""
    one, many = runs.folder / kind, runs.folder / name
    for key in ("tokens", "target_tokens"):
        assert figures(many, "train", key) == figures(one, "train", key)
    for split in ("train", "val"):
        losses = figures(one, split, "loss")
        assert len(losses) >= 3
        assert figures(many, split, "loss") == pytest.approx(losses, rel=1e-5)
    assert figures(many, "train", "grad_norm") == pytest.approx(
        figures(one, "train", "grad_norm"), rel=2e-4
    )
    size = int(name[len(kind) + 1])
    assert ("ranks, which share each batch" in (many / "train.log").read_text()) == (size > 1)
    plan = json.loads((many / "environment.json").read_text(encoding="utf-8"))["plan"]
    assert (plan["ranks"], plan.get("sequence_parallel_size", 1)) == (4, size)
    if kind != "reward":
        asked = [(run / "generations.jsonl").read_text() for run in (one, many)]
        assert asked[0] == asked[1] != ""


def test_a_checkpoint_goes_on_without_the_others(runs: Runs) -> None:
    """The state of the run is that of its groups, not of its ranks."""
    again = runs.folder / "again"
    checkpoint = runs.folder / "lora-2" / "checkpoints" / "step_2"
    config = str(runs.config("lora", 1))
    assert main(["train", config, "--work-dir", str(again), "--resume", str(checkpoint)]) == 0
    assert figures(again, "train", "loss") == pytest.approx(
        figures(runs.folder / "lora", "train", "loss")[2:], rel=1e-5
    )
    assert "world size changed from 2 to 1" in (again / "train.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sequence-parallel-size", "2"], "got 2; expected a divisor of the world size"),
        (["--sequence-parallel-size", "0"], "strategy.sequence_parallel_size: got 0"),
        # A config that is made for one device: the option makes of it what a launcher would.
        (
            [
                "--sequence-parallel-size",
                "2",
                "--cfg-options",
                "strategy.type=single_device",
                "strategy.mixed_precision=bf16",
            ],
            "got 2; expected a divisor of the world size",
        ),
    ],
)
def test_ranks_that_make_no_groups_are_refused(
    runs: Runs, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(runs.config("lora", 1)), *arguments]) == 2
    assert said in capsys.readouterr().err
