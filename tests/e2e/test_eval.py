"""`eval` on a run that ended: the figures are those of the run, and of the file."""

import json
from pathlib import Path

import pytest
import torch
from helpers.preferences import PAIR_ROWS, write_json_lines
from helpers.tiny import records, write_config

from xft.cli import main
from xft.models import load_saved_model
from xft.serving import open_session


def test_it_finds_what_the_run_found_at_its_end(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"instruction": f"Say number {i}", "output": f"Number {i} is good"} for i in (90, 91, 92)]
    file, out = tmp_path / "held.jsonl", tmp_path / "found.json"
    known = (finished_run.parent / "rows.jsonl").read_text().splitlines(keepends=True)
    new = [json.dumps(each) + "\n" for each in rows]
    file.write_text("".join([*new[:2], *known, *new[2:]]))
    options = ["--data", str(file), "--limit", "26", "--max-new-tokens", "6", "--out", str(out)]
    assert main(["eval", str(finished_run), *options]) == 0
    found = json.loads(out.read_text())
    last = records(finished_run, "val")[-1]
    for name in ("loss", "perplexity", "accuracy"):
        assert found["validation"][name] == pytest.approx(last[name], rel=1e-5)
    samples = [json.loads(each) for each in (finished_run / "generations.jsonl").read_text().splitlines()]
    assert found["questions"] == [{k: v for k, v in each.items() if k != "step"} for each in samples[-2:]]
    assert found["data"]["metrics"]["rows"] == 26
    trained = json.loads((finished_run / "data_report.json").read_text())["rows_train"]
    assert found["data"]["trained_on"] == trained
    session = open_session(str(finished_run), max_new_tokens=6)
    answers = found["data"]["answers"][:2]
    assert [each["answer"] for each in answers] == [
        session.ask_once(each["instruction"]) for each in rows[:2]
    ]
    assert [each["reference"] for each in answers] == [each["output"] for each in rows[:2]]
    said = capsys.readouterr().out
    assert f"loss {last['loss']:.4g}" in said
    assert "rougeL" in said
    assert f"{trained} of 26 rows" in said


@pytest.mark.parametrize(
    "extra",
    [
        "objective = dict(type='dpo', precompute_ref_log_probs=True)\n",
        "objective = dict(type='dpo', nll_weight=0.1)\nadapter = None\n",
        "objective = 'kto'\ndata.update(type='unpaired_preference', format='kto')\nhooks['validation'].update(batch_size=3)\n",
    ],
    ids=["dpo beside the adapter", "dpo beside a copy", "kto"],
)
def test_the_validation_of_preferences_is_that_of_the_run(
    extra: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its reference is what the run had: the base, or the model as the run began with it."""
    pairs = [
        {**each, "completion": each["chosen" if number % 2 else "rejected"], "label": bool(number % 2)}
        for number, each in enumerate(PAIR_ROWS)
    ]
    kind = (
        "data.update(type='preference', format='preference', val_split=4)\nmodel.update(dtype='float32')\n"
    )
    rows = write_json_lines(tmp_path / "rows.jsonl", pairs)
    config = write_config(tmp_path / "c.py", tiny_model, rows, kind + extra)
    run, out = tmp_path / "run", tmp_path / "found.json"
    assert main(["train", str(config), "--work-dir", str(run)]) == 0
    assert main(["eval", str(run), "--out", str(out)]) == 0
    found = json.loads(out.read_text())["validation"]
    first, *_, last = ({k: v for k, v in each.items() if k in found} for each in records(run, "val"))
    assert found == pytest.approx(last, rel=1e-4, abs=1e-6)
    assert found != pytest.approx(first, rel=1e-2)
    assert {"rewards/chosen", "rewards/accuracies"} <= found.keys()
    assert f"4 {'samples' if 'kto' in extra else 'pairs'}  loss" in capsys.readouterr().out


def test_the_validation_of_a_reward_model_is_that_of_the_run(
    reward_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    assert main(["eval", str(reward_run), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    last = records(reward_run, "val")[-1]
    assert found.pop("complete") is True
    assert found == {"validation": pytest.approx({key: last[key] for key in found["validation"]}, rel=1e-4)}
    assert {"loss", "rewards/margins", "rewards/accuracies"} <= found["validation"].keys()
    assert main(["eval", str(reward_run), "--data", str(reward_run.parent / "rows.jsonl")]) == 2
    assert "xft score" in capsys.readouterr().err


TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["yes", "no"]
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def test_a_task_of_ones_own_goes_through_the_real_harness(finished_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: pip install lm_eval")
    rows = write_json_lines(
        tmp_path / "rows.jsonl",
        ({"question": f"Is {n} odd? Answer:", "answer": 1 - n % 2} for n in range(6)),
    )
    task, out = tmp_path / "own.yaml", tmp_path / "found.json"
    task.write_text(TASK.format(name="xft_odd", rows=rows))
    assert main(["eval", str(finished_run), "--tasks", str(task), "--limit", "4", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())["tasks"]["xft_odd"]
    # The same by hand: how likely each answer is behind the question, which the harness puts in no template.
    loaded = load_saved_model(str(finished_run))
    right = 0
    for row in [json.loads(each) for each in rows.read_text().splitlines()][:4]:
        begin = loaded.tokenizer(row["question"])["input_ids"]
        likely = []
        for answer in (" yes", " no"):
            ids = torch.tensor([begin + loaded.tokenizer(answer)["input_ids"]])
            with torch.no_grad():
                table = loaded.model(input_ids=ids).logits[0].log_softmax(-1)
            likely.append(sum(table[at - 1, ids[0, at]].item() for at in range(len(begin), ids.shape[1])))
        right += likely.index(max(likely)) == row["answer"]
    assert figures["acc,none"] == right / 4


def test_what_cannot_be_evaluated_is_said_in_one_line(
    finished_run: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"instruction": "x"}\n')
    cases = [
        ([str(tiny_model)], 2, "expected a run folder"),
        ([str(finished_run), "--limit", "0"], 2, "at least 1"),
        ([str(finished_run), "--data", "none.jsonl"], 2, "none.jsonl does not exist"),
        ([str(finished_run), "--data", str(bad)], 3, "bad.jsonl:1: field output"),
    ]
    for arguments, code, message in cases:
        assert main(["eval", *arguments]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
