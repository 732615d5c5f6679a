"""`train` as a user types it, on a tiny model."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import records, write_config, write_rows
from helpers.tolerances import TINY_MODEL_FP32
from safetensors.torch import load_file

from xft.cli import main
from xft.config import load_config

TIMES = ("eta_seconds", "tokens_per_second", "target_tokens_per_second", "peak_memory_bytes")


def _figures(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in each.items() if key not in TIMES} for each in records(run)]


def test_a_run_leaves_the_files_that_everything_else_reads(finished_run: Path) -> None:
    config = load_config(finished_run / "config.py")
    assert config["training"]["epochs"] == 2
    train = records(finished_run, "train")
    assert [each["step"] for each in train] == list(range(1, len(train) + 1))
    wanted = {"loss", "lr", "grad_norm", "tokens", "target_tokens", "tokens_per_second", "eta_seconds"}
    assert wanted <= train[0].keys()
    assert next(each["step"] for each in records(finished_run, "val")) == 0
    assert train[-1]["loss"] < train[0]["loss"]
    samples = [json.loads(line) for line in (finished_run / "generations.jsonl").read_text().splitlines()]
    assert {"step", "question", "answer", "reference", "score", "stopped"} <= samples[0].keys()
    assert {each["step"] for each in samples} >= {0, train[-1]["step"]}
    report = json.loads((finished_run / "data_report.json").read_text())
    assert report["rows_read"] == 24 == report["rows_train"] + report["rows_val"]
    assert 1 <= report["rows_val"] <= 6
    last = train[-1]["step"]
    assert os.readlink(finished_run / "checkpoints" / "last") == f"step_{last}"
    assert (finished_run / "checkpoints" / "best").is_symlink()
    for name in (
        "adapter_model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        assert (finished_run / "final" / name).is_file()


def test_every_row_is_trained_on_once_in_an_epoch(finished_run: Path) -> None:
    report = json.loads((finished_run / "data_report.json").read_text())
    train = records(finished_run, "train")
    trained = sum(each["target_tokens"] for each in train)
    assert trained == 2 * report["splits"]["train"]["target_tokens"]
    assert sum(each["tokens"] for each in train) == 2 * report["splits"]["train"]["tokens"]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    tiny_run: Path, finished_run: Path, tmp_path: Path
) -> None:
    assert main(["train", str(tiny_run), "--work-dir", str(tmp_path / "same")]) == 0
    assert _figures(tmp_path / "same") == _figures(finished_run)
    assert main(["train", str(tiny_run), "--work-dir", str(tmp_path / "other"), "--seed", "5"]) == 0
    assert _figures(tmp_path / "other") != _figures(finished_run)


def test_a_run_asks_and_saves_the_system_message_of_its_rows(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, merged = tmp_path / "run", tmp_path / "merged"
    options = ["data.system=Be brief.", "training.max_steps=1"]
    assert main(["train", str(tiny_run), "--work-dir", str(run), "--cfg-options", *options]) == 0
    lines = (run / "generations.jsonl").read_text().splitlines()
    assert {json.loads(line)["system"] for line in lines} == {"Be brief."}
    assert main(["convert", str(run), str(merged), "--merge"]) == 0
    for folder in (run / "final", merged):
        assert json.loads((folder / "xft_metadata.json").read_text())["system"] == "Be brief."
    again = ["train", str(tiny_run), "--work-dir", str(run), "--resume", "auto"]
    assert main([*again, "--cfg-options", *options]) == 0
    # A finished run is that of these values only.
    assert main([*again, "--cfg-options", *options, "seed=5"]) == 5
    assert "seed was" in capsys.readouterr().err


def test_a_run_asks_its_validation_rows(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = ["eval_prompts=val_rows", "training.max_steps=1"]
    assert main(["train", str(tiny_run), "--work-dir", str(run), "--cfg-options", *options]) == 0
    records = [json.loads(line) for line in (run / "generations.jsonl").read_text().splitlines()]
    assert {each["step"] for each in records} == {0, 1}
    assert all(each["question"].startswith("Say number ") for each in records)
    assert all(each["reference"].startswith("Number ") for each in records)
    capsys.readouterr()
    assert main(["eval", str(run)]) == 0
    assert f"of {len(records) // 2}, {len(records) // 2} asked" in capsys.readouterr().out


def accumulated(folder: Path, model: Path, accumulation: int) -> list[tuple[float, float]]:
    """Loss and norm of the gradient of two steps of 16 rows, in so many micro-batches."""
    rows = write_rows(folder / "rows.jsonl", 16)
    config = write_config(
        folder / "c.py",
        model,
        rows,
        f"data.update(packing=False, val_split=None)\n"
        f"training.update(epochs=2, micro_batch_size={16 // accumulation}, gradient_accumulation_steps={accumulation})\n",
    )
    assert main(["train", str(config), "--work-dir", str(folder / "run")]) == 0
    return [(each["loss"], each["grad_norm"]) for each in records(folder / "run", "train")]


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> list[tuple[float, float]]:
    return accumulated(tmp_path_factory.mktemp("at_once"), tiny_model, 1)


@pytest.mark.parametrize("accumulation", [4, 16])
def test_accumulation_does_not_change_the_loss_of_an_epoch_of_one_step(
    tiny_model: Path, tmp_path: Path, at_once: list[tuple[float, float]], accumulation: int
) -> None:
    """16 rows in one step, as 1 x 16, 4 x 4 and 16 x 1: the same loss and the same gradient."""
    got = accumulated(tmp_path, tiny_model, accumulation)
    assert len(got) == len(at_once) == 2
    for (loss, norm), (wanted_loss, wanted_norm) in zip(got, at_once, strict=True):
        assert loss == pytest.approx(wanted_loss, rel=TINY_MODEL_FP32)
        assert norm == pytest.approx(wanted_norm, rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "extra"),
    [
        (2, "training.update(epochs=1)"),
        (10, "training.update(epochs=1, gradient_accumulation_steps=16, min_steps_per_epoch=4)"),
        (10, "training.update(max_steps=1)"),
        (10, "training.update(max_steps=3)\nlr_scheduler = dict(type='cosine', warmup_ratio=0.9)"),
    ],
)
def test_small_data_always_works(tiny_model: Path, tmp_path: Path, rows: int, extra: str) -> None:
    data = write_rows(tmp_path / "rows.jsonl", rows)
    config = write_config(tmp_path / "c.py", tiny_model, data, extra + "\n")
    assert main(["train", str(config), "--work-dir", str(tmp_path / "run")]) == 0
    train = records(tmp_path / "run", "train")
    assert max(each["lr"] for each in train) > 0
    if "steps=" in extra and "min_steps" not in extra:
        assert len(train) == int(extra.split("steps=")[1][0])
    if "min_steps" in extra:
        assert len(train) >= 4
        assert "gradient_accumulation_steps 16 →" in (tmp_path / "run" / "train.log").read_text()


def test_keep_says_how_many_checkpoints_stay_beside_the_best(tiny_run: Path, tmp_path: Path) -> None:
    options = ["hooks.checkpoint.interval=1", "hooks.checkpoint.save_total_limit=1"]
    assert (
        main(["train", str(tiny_run), "--work-dir", str(tmp_path / "run"), "--cfg-options", *options]) == 0
    )
    folder = tmp_path / "run" / "checkpoints"
    kept = {each.name for each in folder.iterdir() if not each.is_symlink()}
    assert kept == {os.readlink(folder / "last"), os.readlink(folder / "best")}


def test_early_stopping_ends_the_run_and_still_saves(tiny_run: Path, tmp_path: Path) -> None:
    options = [
        "hooks.early_stopping.type=early_stopping",
        "hooks.early_stopping.patience=2",
        "hooks.early_stopping.min_delta=100.0",
        "hooks.validation.interval=1",
        "training.epochs=50",
    ]
    assert (
        main(["train", str(tiny_run), "--work-dir", str(tmp_path / "run"), "--cfg-options", *options]) == 0
    )
    # The validation before the first step is the first; two more bring no progress of 100.
    assert len(records(tmp_path / "run", "train")) == 2
    assert os.readlink(tmp_path / "run" / "checkpoints" / "last") == "step_2"
    assert (tmp_path / "run" / "final" / "adapter_model.safetensors").is_file()


def test_all_weights_are_trained_without_an_adapter(
    tiny_run: Path, tiny_model: Path, tmp_path: Path
) -> None:
    options = ["adapter=none", "training.max_steps=3", "optimizer.lr=0.001"]
    assert (
        main(["train", str(tiny_run), "--work-dir", str(tmp_path / "run"), "--cfg-options", *options]) == 0
    )
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(tmp_path / "run" / "final" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(not (before[name] == after[name]).all() for name in before)


def test_nf4_is_trained_for_real_on_the_cpu(tiny_run: Path, tmp_path: Path) -> None:
    options = ["quantization.type=nf4", "training.epochs=4"]
    run = tmp_path / "run"
    extra = 'quantization = dict(type="nf4")\n'
    tiny_run.write_text(tiny_run.read_text() + extra)
    assert main(["train", str(tiny_run), "--work-dir", str(run), "--cfg-options", *options[1:]]) == 0
    train = records(run, "train")
    assert train[-1]["loss"] < train[0]["loss"] - 0.05
    assert json.loads((run / "final" / "xft_metadata.json").read_text())["bits"] == 4


def test_added_tokens_get_embeddings_that_are_trained_and_saved(tiny_run: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text().replace("Number", "<|num|>"))
    extra = 'model.update(additional_special_tokens=["<|num|>"])\nhooks.update(sample_generation=None)\n'
    tiny_run.write_text(tiny_run.read_text() + extra)
    run = tmp_path / "run"
    assert (
        main(["train", str(tiny_run), "--work-dir", str(run), "--cfg-options", "training.max_steps=4"]) == 0
    )
    saved = load_file(run / "final" / "adapter_model.safetensors")
    deltas = [name for name in saved if "trainable_tokens" in name or "token_adapter" in name]
    assert deltas, sorted(saved)
    assert main(["chat", str(run), "--prompt", "Say number 3", "--max-new-tokens", "2"]) == 0


def test_layers_saved_beside_the_adapter_are_trained_whole(
    tiny_run: Path, tiny_model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ["adapter.modules_to_save=['norm']", "training.max_steps=2"]
    assert main(["train", str(tiny_run), "--work-dir", str(run), "--cfg-options", *options]) == 0
    saved = load_file(run / "final" / "adapter_model.safetensors")
    name = next(each for each in saved if each.endswith("model.norm.weight"))
    before = load_file(tiny_model / "model.safetensors")["model.norm.weight"]
    assert not (saved[name] == before).all()
    assert main(["chat", str(run), "--prompt", "Hi", "--max-new-tokens", "1"]) == 0


def test_components_of_the_users_own_package_are_found(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from mmengine.hooks import Hook\n"
        "from xft.types import Message\n"
        "seen = []\n"
        "def swap(row, prefix=''):\n"
        "    return [Message('user', prefix + row['instruction']), Message('assistant', row['output'], is_target=True)]\n"
        "class Count(Hook):\n"
        "    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):\n"
        "        seen.append((runner.iter, outputs['loss']))\n"
    )
    monkeypatch.chdir(tmp_path)
    extra = (
        "data.update(format=dict(type='mine.swap', prefix='Well: '))\n"
        "hooks.update(count=dict(type='mine.Count'))\n"
        "optimizer = dict(type='torch.optim.SGD', lr=0.1)\n"
    )
    tiny_run.write_text(tiny_run.read_text() + extra)
    assert main(["train", str(tiny_run), "--work-dir", "run", "--cfg-options", "training.max_steps=2"]) == 0
    import mine  # type: ignore[import-not-found]

    assert [step for step, _ in mine.seen] == [1, 2]


def test_without_a_work_dir_each_run_gets_a_folder_of_its_own(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["train", str(tiny_run), "--cfg-options", "training.max_steps=1"]) == 0
    assert (tmp_path / "runs" / "tiny" / "final").is_dir()
    assert (tmp_path / "runs" / "tiny-2" / "final").is_dir()


def test_the_banner_fits_one_screen_and_shows_what_is_trained(finished_run: Path) -> None:
    lines = [each[24:] for each in (finished_run / "train.log").read_text().splitlines()]
    lines = lines[lines.index(next(each for each in lines if each.startswith("model "))) :]
    lines = lines[: next(at for at, each in enumerate(lines) if each.startswith("  validation"))]
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    said = "\n".join(lines)
    steps = len(records(finished_run, "train"))
    assert f"steps     {steps} = 2 epochs × {steps // 2}\n" in said
    assert "batch     global 2 = micro 1 × grad accum 2 × 1 rank, ~" in said
    assert re.search(r"\[\[Number \d+ is (good ?)+.*\]\]", said.replace("\n" + " " * 10, ""))
    assert "user" not in "".join(re.findall(r"\[\[(.*?)\]\]", said))
