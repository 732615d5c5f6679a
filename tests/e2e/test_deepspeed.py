"""ZeRO and FSDP2 on two ranks with gloo give what one process gives: losses, checkpoints, models."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.components import BLOWING
from helpers.ranks import run_jobs
from helpers.tiny import ROOT, records, save_tiny, write_config, write_rows
from safetensors.torch import load_file

from xft.cli import main
from xft.export import convert

FSDP2 = "fsdp2"
Stage = int | str
STAGES: dict[str, tuple[Stage, ...]] = {
    "lora": (0, 1, 2, 3, FSDP2),
    "full": (1, 2, 3, FSDP2),
    "qlora": (2, 3, FSDP2),
    "int8": (3,),
    "modules": (2, 3, FSDP2),
}
NO_NUMBERS: list[tuple[str, Stage]] = [
    ("blown", 3),
    ("blown", FSDP2),
    ("nan", 2),
    ("nan", 3),
    ("nan", FSDP2),
]
BOTH = [(kind, stage) for kind, stages in STAGES.items() for stage in stages]
SHIPPED = {
    "zero2": "deepspeed ZeRO stage 2 on 2 ranks",
    "zero3_offload": "offload_optimizer and offload_param to cpu",
    "fsdp2": "groups on 2 ranks",
    "fsdp2_offload": "parameters and optimizer state in host memory",
}
"""Line of the log by the options of the strategy."""
TIMES = ("eta_seconds", "tokens_per_second", "target_tokens_per_second", "peak_memory_bytes")
COMMON = """
hooks.update(sample_generation=None, progress=dict(type="progress", interval=8))
hooks["checkpoint"].update(interval=3, save_total_limit=9, metric_for_best_model=None)
hooks["validation"].update(interval=6)
data.update(packing=False, val_split=2)
training.update(gradient_accumulation_steps=4 // RANKS)
"""
EXTRA = {
    # LoRA+, whose groups of weights have rates of their own.
    "lora": "adapter.update(loraplus_lr_ratio=4)\noptimizer.update(lr=3e-3, weight_decay=0.1)\n",
    "full": "adapter = None\noptimizer.update(lr=1e-3, weight_decay=0.1)\n",
    "qlora": 'quantization = dict(type="nf4")\n',
    "int8": 'quantization = dict(type="int8")\n',
    # Fully trained modules next to LoRA, in fp32 on a base in bf16; updates that bf16 would lose.
    "modules": 'model.update(dtype="bfloat16")\noptimizer.update(lr=1e-5)\n'
    'adapter.update(modules_to_save=["embed_tokens", "lm_head", "model.norm"])\n',
    "hooks": """
hooks.update(
    sample_generation=dict(type="sample_generation", max_new_tokens=4),
    early_stopping=dict(type="early_stopping", patience=3, min_delta=100),
    verify=dict(type="verify", mode="in_process"),
    training_health=dict(type="training_health"),
)
hooks["checkpoint"].update(metric_for_best_model="loss")
hooks["validation"].update(interval=1)
""",
    "dropout": "adapter.update(lora_dropout=0.2)\nmodel.update(neftune_alpha=5.0)\n",
    "pissa": 'adapter.update(init_lora_weights="pissa")\n',
    "dora": 'adapter.update(use_dora=True)\nmodel.update(additional_special_tokens=["<|num|>"])\n',
    "muon": 'optimizer = dict(type="muon")\n',
    "average": 'optimizer = dict(type="schedule_free_adamw")\nlr_scheduler = "constant"\n',
    "blown": 'hooks["training_health"] = dict(type="training_health", on_nonfinite="skip")\n'
    'objective = dict(type="blowing.blow", token=TOKEN, kind="gradient")\n',
    "nan": 'hooks["training_health"] = dict(type="training_health", on_nonfinite="skip")\n'
    'objective = dict(type="blowing.blow", token=TOKEN, kind="loss")\n',
}


class Runs:
    """Trainings of one process, and of two ranks, by name."""

    def __init__(self, folder: Path, model: Path, tokenizer: Any) -> None:
        self.folder = folder
        self.errors: dict[str, str] = {}
        rows = write_rows(folder / "rows.jsonl", 14)
        lines = rows.read_text().splitlines()
        for marked in (4, 5):
            lines[marked] = json.dumps({**json.loads(lines[marked]), "instruction": "zebra"})
        rows.write_text("\n".join(lines) + "\n")
        others = {id for line in lines if "zebra" not in line for id in tokenizer(line)["input_ids"]}
        token = next(each for each in tokenizer("zebra")["input_ids"] if each not in others)
        (folder / "blowing.py").write_text(BLOWING)
        for kind, extra in EXTRA.items():
            for ranks in (1, 2):
                text = (COMMON + extra).replace("RANKS", str(ranks)).replace("TOKEN", str(token))
                write_config(self.config(kind, ranks), model, rows, text)
        for stage in range(4):
            zero: dict[str, Any] = {"stage": stage}
            if stage == 3:
                # Without this, weights as small as these would stay whole on every rank.
                zero["stage3_param_persistence_threshold"] = 0
            self.json(stage).write_text(
                json.dumps({"train_batch_size": "auto", "zero_optimization": zero}), encoding="utf-8"
            )

    def config(self, kind: str, ranks: int) -> Path:
        return self.folder / f"{kind}_{ranks}.py"

    def json(self, stage: int) -> Path:
        return self.folder / f"zero{stage}.json"

    def alone(self, kind: str, name: str, *options: str) -> None:
        arguments = ["train", str(self.config(kind, 1)), "--work-dir", str(self.folder / name)]
        assert main([*arguments, *options]) == 0

    def job(self, kind: str, stage: Stage | None, name: str, resume: str | None = None) -> dict[str, Any]:
        return {
            "config": str(self.config(kind, 2)),
            "work_dir": str(self.folder / name),
            "deepspeed": str(self.json(stage)) if isinstance(stage, int) else None,
            "fsdp": stage == FSDP2,
            "resume": None if resume is None else str(self.folder / resume / "checkpoints" / "step_3"),
        }

    def together(self, jobs: list[dict[str, Any]]) -> None:
        found = run_jobs(self.folder, jobs, timeout=500)
        self.errors |= {Path(job["work_dir"]).name: each for job, each in zip(jobs, found, strict=True)}


@pytest.fixture(scope="module")
def runs(tiny_model: Path, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All trainings of this file: those of two ranks are started once."""
    pytest.importorskip("deepspeed")
    folder = tmp_path_factory.mktemp("zero")
    made = Runs(folder, tiny_model, tiny_tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for kind in (*STAGES, "pissa", "dora", "blown", "nan", "hooks", "average"):
            made.alone(kind, kind)
    jobs = [made.job(kind, stage, f"{kind}-{stage}") for kind, stage in BOTH]
    jobs += [made.job(kind, stage, f"{kind}-{stage}") for kind, stage in NO_NUMBERS]
    for name in (
        "hooks-3",
        "hooks-fsdp2",
        "pissa-2",
        "pissa-3",
        "pissa-fsdp2",
        "dora-fsdp2",
        "average-2",
        "average-fsdp2",
    ):
        kind, _, stage = name.partition("-")
        jobs += [made.job(kind, FSDP2 if stage == FSDP2 else int(stage), name)]
    jobs += [made.job("muon", 2, "muon-2"), made.job("muon", FSDP2, "muon-fsdp2")]
    jobs += [made.job("int8", FSDP2, "int8-fsdp2")]
    jobs += [made.job("dropout", 3, "dropout-3"), made.job("dropout", 3, "dropout-again", "dropout-3")]
    jobs += [made.job("dropout", FSDP2, "dropout-fsdp2")]
    jobs += [made.job("dropout", FSDP2, "dropout-fsdp2-again", "dropout-fsdp2")]
    jobs += [
        made.job("full", 2, "full-again", "full-2"),
        made.job("full", 3, "one-then-3", "full"),
        made.job("full", 1, "3-then-1", "full-3"),
        made.job("lora", 2, "lora-3-then-2", "lora-3"),
        made.job("full", FSDP2, "full-fsdp2-again", "full-fsdp2"),
        made.job("full", FSDP2, "one-then-fsdp2", "full"),
        made.job("full", FSDP2, "3-then-fsdp2", "full-3"),
        made.job("full", 1, "fsdp2-then-1", "full-fsdp2"),
        made.job("full", None, "fsdp2-then-ddp", "full-fsdp2"),
        made.job("lora", FSDP2, "lora-2-then-fsdp2", "lora-2"),
    ]
    large = save_tiny(folder / "internlm3", "internlm3", tiny_tokenizer)
    paths = [
        f"model.path={large}",
        f"data.path={folder / 'rows.jsonl'}",
        "template=auto",
        "training.max_steps=2",
    ]
    offload = ["strategy.type=fsdp2", "strategy.cpu_offload=True", "strategy.reshard_after_forward=False"]
    jobs += [
        {
            "config": str(ROOT / "configs" / "internlm_qlora.py"),
            "work_dir": str(folder / f"shipped-{name}"),
            "deepspeed": name if name.startswith("zero") else None,
            "fsdp": name == FSDP2,
            "overrides": [
                *paths,
                "hooks.verify=none",
                "hooks.sample_generation=none",
                *(offload if name == "fsdp2_offload" else []),
            ],
        }
        for name in SHIPPED
    ]
    made.together(jobs)
    made.alone("full", "3-then-one", "--resume", str(folder / "full-3" / "checkpoints" / "step_3"))
    made.alone("full", "fsdp2-then-one", "--resume", str(folder / "full-fsdp2" / "checkpoints" / "step_3"))
    made.alone("lora", "2-then-one", "--resume", str(folder / "lora-2" / "checkpoints" / "step_3"))
    return made


def figures(runs: Runs, name: str, key: str, after: int = 0) -> list[float]:
    found = [each[key] for each in records(runs.folder / name) if key in each and each["step"] > after]
    return [math.nan if each is None else each for each in found]  # what is no number is null in JSON


@pytest.mark.parametrize(("kind", "stage"), BOTH)
def test_every_stage_gives_the_losses_of_one_process(runs: Runs, kind: str, stage: Stage) -> None:
    """12 rows in windows of 4 with 3 steps an epoch, clipped by the global norm; fp32."""
    name = f"{kind}-{stage}"
    # A weight may be rounded to the next number of bf16.
    wide = 10 if kind == "modules" else 1
    assert runs.errors[name] == ""
    assert figures(runs, name, "target_tokens") == figures(runs, kind, "target_tokens")
    assert figures(runs, name, "loss") == pytest.approx(figures(runs, kind, "loss"), rel=wide * 1e-5)
    # Sums of squares in fp32, taken in another order.
    norms = figures(runs, kind, "grad_norm")
    assert figures(runs, name, "grad_norm") == pytest.approx(norms, rel=wide * 2e-4)


@pytest.mark.parametrize(("kind", "stage"), NO_NUMBERS)
def test_a_step_without_numbers_is_left_out(runs: Runs, kind: str, stage: Stage) -> None:
    name = f"{kind}-{stage}"
    assert runs.errors[name] == ""
    skipped = [each["step"] for each in records(runs.folder / kind) if each.get("skipped")]
    assert len(skipped) >= 2
    assert [each["step"] for each in records(runs.folder / name) if each.get("skipped")] == skipped
    losses = figures(runs, kind, "loss")
    assert figures(runs, name, "loss") == pytest.approx(losses, rel=1e-5, nan_ok=True)
    reason = "grad_norm is" if kind == "blown" else "the loss is nan (rows: "
    for line in (f"warning: skipped step {skipped[0]}: {reason}", "rows.jsonl:"):
        assert line in (runs.folder / name / "train.log").read_text()


@pytest.mark.parametrize("name", ["average-fsdp2"])
def test_optimizer_that_moves_weights_between_two_points_is_sharded(runs: Runs, name: str) -> None:
    assert runs.errors[name] == ""
    assert figures(runs, name, "loss") == pytest.approx(figures(runs, "average", "loss"), rel=1e-5)


@pytest.mark.parametrize("name", ["pissa-2", "pissa-fsdp2"])
def test_pissa_is_that_of_one_process(runs: Runs, name: str) -> None:
    """Gradients of the half that is held are zero on every rank, whoever has which share of it."""
    assert runs.errors[name] == ""
    assert figures(runs, name, "loss") == pytest.approx(figures(runs, "pissa", "loss"), rel=1e-5)
    one, two = saved(runs, "pissa", "lora"), saved(runs, name, "lora")
    for key, each in one.items():
        torch.testing.assert_close(two[key], each, rtol=0, atol=1e-4)
        first, second = two[key].chunk(2, 0 if "lora_A" in key else 1)
        assert not torch.equal(first, second)


def test_dora_and_new_tokens_are_those_of_one_process(runs: Runs) -> None:
    """Ranks read the base by rows, and compute the norms of one layer at a time."""
    assert runs.errors["dora-fsdp2"] == ""
    assert figures(runs, "dora-fsdp2", "loss") == pytest.approx(figures(runs, "dora", "loss"), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pissa-3", "needs full weights, and ZeRO-3 shards them"),
        ("average-2", "ZeRO's copies of them would not follow"),
        ("muon-2", "Muon does not work element by element"),
        ("muon-fsdp2", "Muon does not work element by element"),
        ("int8-fsdp2", "bitsandbytes keeps the scales of int8 weights in the parameter objects"),
    ],
)
def test_unshardable_adapter_or_optimizer_is_rejected(runs: Runs, name: str, reason: str) -> None:
    assert reason in runs.errors[name]


@pytest.mark.parametrize("sharded", ["hooks-3", "hooks-fsdp2"])
def test_hooks_see_on_shared_weights_what_they_see_on_one_device(runs: Runs, sharded: str) -> None:
    """Validation, generation, the best checkpoint, early stopping and the verification."""
    assert runs.errors[sharded] == ""
    one, two = (records(runs.folder / name, "val") for name in ("hooks", sharded))
    assert [each["step"] for each in two] == [each["step"] for each in one] == [0, 1, 2, 3]
    assert [each["loss"] for each in two] == pytest.approx([each["loss"] for each in one], rel=1e-5)
    asked = [(runs.folder / name / "generations.jsonl").read_text() for name in ("hooks", sharded)]
    assert asked[0] == asked[1] != ""
    for name in ("hooks", sharded):
        log = (runs.folder / name / "train.log").read_text()
        assert "stopping early: validation loss has not fallen" in log
        assert "reloaded model matches the live model" in log
        assert (runs.folder / name / "checkpoints" / "best").resolve().name == "step_3"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_is_sharded_by_one_flag(runs: Runs, name: str) -> None:
    """QLoRA with gradient checkpointing, packed rows and dropout; a tiny model in place of the weights."""
    run = runs.folder / f"shipped-{name}"
    assert runs.errors[run.name] == ""
    assert len(records(run, "train")) == 2
    assert load_file(run / "final" / "adapter_model.safetensors")
    log = (run / "train.log").read_text()
    assert SHIPPED[name] in log
    assert ("auto: train_micro_batch_size_per_gpu=1, " in log) == name.startswith("zero")


@pytest.mark.parametrize("name", ["full-3", "full-fsdp2"])
def test_a_checkpoint_of_shared_weights_is_exported_as_it_is(runs: Runs, name: str, tmp_path: Path) -> None:
    checkpoint = runs.folder / name / "checkpoints" / "step_3"
    convert(str(checkpoint), str(tmp_path / "out"), subprocess=False)
    one = load_file(runs.folder / "full" / "checkpoints" / "step_3" / "model.safetensors")
    two = load_file(tmp_path / "out" / "model.safetensors")
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


def saved(runs: Runs, name: str, kind: str) -> dict[str, torch.Tensor]:
    file = "model.safetensors" if kind == "full" else "adapter_model.safetensors"
    return load_file(runs.folder / name / "final" / file)


@pytest.mark.parametrize("kind", STAGES)
def test_what_is_saved_is_whole_whoever_had_which_share(runs: Runs, kind: str) -> None:
    expected = saved(runs, kind, kind)
    for stage in STAGES[kind]:
        found = saved(runs, f"{kind}-{stage}", kind)
        assert found.keys() == expected.keys()
        assert all(torch.allclose(found[name], expected[name], atol=1e-4) for name in expected)


def test_the_state_of_the_optimizer_is_whole_whoever_had_which_share(runs: Runs) -> None:
    where = Path("checkpoints") / "step_3"
    expected = load_file(runs.folder / "full" / where / "training_state.safetensors")
    for name in ("full-1", "full-2", "full-3", "full-fsdp2"):
        found = load_file(runs.folder / name / where / "training_state.safetensors")
        # Each rank has written its own share, in the order of ranks.
        files = sorted((runs.folder / name / where).glob("training_state-*-of-00002.safetensors"))
        first, second = map(load_file, files)
        sizes = [sum(each.nbytes for each in share.values()) for share in (first, second)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
        assert first.keys() == second.keys()
        assert not first.keys() & found.keys()
        for each in first:
            found[each] = torch.cat([first[each], second[each]]).reshape(expected[each].shape)
        state = {each for each in found if ".rng." not in each}
        assert state == {each for each in expected if ".rng." not in each}
        for each in state:
            # Single numbers are sums that nearly cancel; their order was another.
            apart = (found[each].float() - expected[each].float()).norm()
            assert apart <= 1e-4 * expected[each].float().norm(), each


@pytest.mark.parametrize(
    ("whole", "again"),
    [
        ("dropout-3", "dropout-again"),
        ("full-2", "full-again"),
        ("dropout-fsdp2", "dropout-fsdp2-again"),
        ("full-fsdp2", "full-fsdp2-again"),
    ],
)
def test_a_resumed_run_is_bit_equal_on_the_same_ranks(runs: Runs, whole: str, again: str) -> None:
    assert runs.errors[again] == ""
    for key in ("loss", "grad_norm", "lr"):
        assert figures(runs, again, key) == figures(runs, whole, key, after=3)
    kind = whole.partition("-")[0]
    before, after = saved(runs, whole, kind), saved(runs, again, kind)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("one-then-3", "full"),
        ("3-then-1", "full"),
        ("3-then-one", "full"),
        ("lora-3-then-2", "lora"),
        ("2-then-one", "lora"),
        ("one-then-fsdp2", "full"),
        ("3-then-fsdp2", "full"),
        ("fsdp2-then-1", "full"),
        ("fsdp2-then-ddp", "full"),
        ("fsdp2-then-one", "full"),
        ("lora-2-then-fsdp2", "lora"),
    ],
)
def test_a_run_goes_on_with_another_stage_and_other_ranks(runs: Runs, name: str, whole: str) -> None:
    assert runs.errors.get(name, "") == ""
    assert figures(runs, name, "loss") == pytest.approx(figures(runs, whole, "loss", after=3), rel=1e-5)


def test_the_change_of_ranks_is_said(runs: Runs) -> None:
    log = (runs.folder / "one-then-3" / "train.log").read_text()
    assert "world size changed from 1 to 2: gradient_accumulation_steps 4 → 2" in log
    assert "RNG state of rank 1 is initialized from the seed" in log
