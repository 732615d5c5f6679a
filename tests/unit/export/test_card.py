"""Content of the model card."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from xft.errors import CheckpointError
from xft.export.card import is_on_hub, public_name, write_card

CONFIG = """\
model = {"type": "causal_lm", "path": "/home/somebody/base"}
adapter = {"type": "lora", "r": 4}
data = {"type": "instruction", "path": "/home/somebody/rows.jsonl", "format": "alpaca", "max_length": 128}
loggers = {"wandb": {"type": "wandb", "api_key": "hunter2"}}
training = {"epochs": 2}
seed = 0
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "home" / "run"
    (run / "final").mkdir(parents=True)
    (run / "config.py").write_text(CONFIG)
    report = {
        "rows_read": 1200,
        "rows_train": 1100,
        "rows_val": 60,
        "rows_dropped": {"too long": 40},
    }
    (run / "data_report.json").write_text(json.dumps(report))
    rows: list[dict[str, Any]] = [
        {"step": 0, "split": "val", "loss": 2.5},
        {"step": 0, "split": "generation", "score": 1, "num_scored": 3},
        {"step": 9, "split": "val", "loss": 1.25},
        {"step": 9, "split": "generation", "score": 3, "num_scored": 3},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [(0, "no"), (9, "<script>x</script> | [a](b)\n# yes")]
    (run / "generations.jsonl").write_text(
        "".join(
            json.dumps({"step": step, "question": "Q?", "answer": answer}) + "\n" for step, answer in asked
        )
    )
    return run


def _front_matter(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])  # type: ignore[no-any-return]


def test_card_names_method_and_public_data_only(run: Path, tmp_path: Path) -> None:
    data = {
        "a": {"path": "owner/rows:main#100"},
        "b": {"path": "/home/somebody/x.jsonl"},
        "c": {"path": "xft://p.jsonl"},
    }
    config = CONFIG.replace('"path": "/home/somebody/rows.jsonl"', f'"datasets": {data!r}')
    (run / "config.py").write_text(config + 'objective = "dpo"\nquantization = {"type": "nf4"}\n')
    write_card(tmp_path, run, "owner/name", "adapter", "run")
    card = (tmp_path / "README.md").read_text()
    fields = _front_matter(card)
    assert fields["datasets"] == ["owner/rows"]
    assert fields["tags"] == ["xft", "qlora", "dpo"]
    assert "`xft://p.jsonl`" in card
    assert "somebody" not in card


@pytest.mark.parametrize(("source", "step"), [("", 4), ("checkpoints/step_4", None)])
def test_card_of_earlier_weights_leaves_out_later_results(
    run: Path, tmp_path: Path, source: str, step: int | None
) -> None:
    write_card(tmp_path, run, "owner/name", "adapter", "run")
    assert "at step 9" in (tmp_path / "README.md").read_text()
    (run / source).mkdir(parents=True, exist_ok=True)
    write_card(tmp_path, run / source, "owner/name", "adapter", "run", step)
    card = (tmp_path / "README.md").read_text()
    assert "at step 9" not in card
    assert "yes" not in card


def test_card_of_reward_model_has_its_task_and_command(run: Path, tmp_path: Path) -> None:
    (run / "config.py").write_text(CONFIG.replace("causal_lm", "reward_model"))
    write_card(tmp_path, run, "owner/name", "adapter", "run")
    card = (tmp_path / "README.md").read_text()
    assert _front_matter(card)["pipeline_tag"] == "text-classification"
    assert "xft score . ROWS.jsonl" in card
    assert "xft chat" not in card


def test_card_keeps_questions_about_several_images_apart(run: Path, tmp_path: Path) -> None:
    rows = [
        {
            "step": step,
            "question": "What is this?",
            "answer": f"{name} {step}",
            "images": [f"pictures/{name}.png"],
        }
        for step in (0, 9)
        for name in ("cat", "dog")
    ]
    (run / "generations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_card(tmp_path, run / "final", "/home/somebody/base", "adapter", "run")
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("| What is this?")] == [
        f"| What is this? \\[{name}.png\\] | {name} 0 | {name} 9 |" for name in ("cat", "dog")
    ]


def test_card_contains_results_and_no_private_values(run: Path, tmp_path: Path) -> None:
    write_card(tmp_path, run / "final", "/home/somebody/base", "adapter", "run")
    card = (tmp_path / "README.md").read_text()
    fields = _front_matter(card)
    assert (fields["library_name"], fields["pipeline_tag"]) == ("peft", "text-generation")
    assert fields["tags"] == ["xft", "lora", "sft"]
    assert fields.keys() & {"base_model", "base_model_relation", "datasets"} == set()
    assert fields["model-index"][0]["name"] == "run"
    metrics = fields["model-index"][0]["results"][0]["metrics"]
    assert [(metric["type"], metric["value"]) for metric in metrics] == [("loss", 1.25)]
    assert "(method: lora, sft)" in card
    assert "1,200 rows read: 1,100 train, 60 val, 40 dropped." in card
    assert "- validation loss: 2.5 at step 0, 1.25 at step 9" in card
    assert "- sample questions, score: 1 at step 0, 3 at step 9 of 3" in card
    assert "| adapter.r | 4 |" in card
    assert "| data.max_length | 128 |" in card
    for secret in ("hunter2", "somebody", "rows.jsonl", str(tmp_path)):
        assert secret not in card
    row = next(line for line in card.splitlines() if line.startswith("| Q?"))
    assert "<" not in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 4


def test_card_names_a_base_model_on_the_hub(run: Path, tmp_path: Path) -> None:
    write_card(tmp_path, run, "owner/name", "model", "run")
    fields = _front_matter((tmp_path / "README.md").read_text())
    assert (fields["base_model"], fields["base_model_relation"]) == ("owner/name", "finetune")
    assert [public_name(name) for name in ("/a/b", "./c", "o/n", "xft://m")] == ["b", "c", "o/n", "xft://m"]
    assert [is_on_hub(name) for name in ("o/n", "xft://m", "/a/b", "a")] == [True, False, False, False]


def test_card_does_not_execute_the_config(run: Path, tmp_path: Path) -> None:
    (run / "config.py").write_text("raise SystemExit(3)")
    write_card(tmp_path, run, "owner/name", "model", "run")
    assert "contains custom components, which are not shown" in (tmp_path / "README.md").read_text()


def test_card_of_run_with_malformed_metrics_is_an_error(run: Path, tmp_path: Path) -> None:
    (run / "metrics.jsonl").write_text("{")
    with pytest.raises(CheckpointError) as error:
        write_card(tmp_path, run, "owner/name", "model", "run")
    assert error.value.key == str(run)
