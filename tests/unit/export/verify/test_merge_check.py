"""Tolerances and inputs of the comparison of merged models."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from xft.errors import CheckpointError
from xft.export.verify.comparison import compare
from xft.export.verify.merge_check import (
    INT8_TOLERANCE,
    TOLERANCES,
    Tolerance,
    compare_merged,
    merge_tolerance,
    read_probes,
)
from xft.export.verify.worker import PROBE_ANSWERS, PROBE_PROMPT
from xft.templates import SOURCES, ChatTemplate


def test_merge_tolerance_is_that_of_the_coarser_dtype() -> None:
    assert merge_tolerance(torch.float32, torch.bfloat16) == TOLERANCES[torch.bfloat16]
    assert merge_tolerance(torch.float16, torch.float32) == TOLERANCES[torch.float16]
    assert merge_tolerance(torch.bfloat16, torch.bfloat16, bits=4) == TOLERANCES[torch.bfloat16]
    assert merge_tolerance(torch.bfloat16, torch.bfloat16, bits=8) == INT8_TOLERANCE
    dtypes = (torch.float32, torch.float16, torch.bfloat16)
    ordered = [*(TOLERANCES[dtype] for dtype in dtypes), INT8_TOLERANCE]
    assert [tolerance.kl for tolerance in ordered] == sorted(tolerance.kl for tolerance in ordered)
    agreements = [tolerance.agreement for tolerance in ordered]
    assert agreements == sorted(agreements, reverse=True)


def test_compare_merged_weights_positions_equally() -> None:
    """Nine positions that agree and one that does not: 90 %, not the mean of 100 % and 0 %."""
    same, expected = torch.eye(10)[None, :9] * 9, torch.eye(10)[None, 9:] * 9
    actual = expected.roll(1, dims=-1)
    logits = [same, expected], [same, actual]
    comparison = compare_merged(*logits, Tolerance(9.0, 0.9), "run")
    assert comparison.agreement == pytest.approx(0.9)
    assert comparison.kl == pytest.approx(compare(expected, actual).kl / 10)
    for tolerance in (Tolerance(9.0, 0.95), Tolerance(0.01, 0.5)):
        with pytest.raises(CheckpointError) as error:
            compare_merged(*logits, tolerance, "run")
        assert (error.value.key, error.value.got) == ("run: merged model", comparison.kl)


def test_read_probes_uses_the_last_answers_of_the_run(tmp_path: Path, byte_tokenizer: Any) -> None:
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    rows = [
        {"step": 0, "question": "Who?", "answer": "early"},
        {"step": 9, "question": "Who?", "answer": "late"},
        {"step": 9, "system": "Be brief.", "question": "What?", "answer": "this"},
    ]
    (tmp_path / "generations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "checkpoints" / "step_9"
    folder.mkdir(parents=True)
    for source in (tmp_path, folder):
        probes, description = read_probes(source, byte_tokenizer, template)
        texts = [byte_tokenizer.decode(ids) for (ids,) in probes]
        assert texts[0].endswith("<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nlate")
        assert "system" not in texts[0]
        assert texts[1].startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat?")
        assert texts[1].endswith("What?<|im_end|>\n<|im_start|>assistant\nthis")
        assert description == "2 sample questions"


def test_read_probes_without_questions_uses_the_probe_prompt(tmp_path: Path, byte_tokenizer: Any) -> None:
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    (probe,), description = read_probes(tmp_path, byte_tokenizer, template)
    assert PROBE_PROMPT in byte_tokenizer.decode(*probe)
    assert "no sample questions" in description
    (raw,), _ = read_probes(tmp_path, byte_tokenizer, None)
    assert byte_tokenizer.decode(*raw) == PROBE_PROMPT


def test_read_probes_of_malformed_file_is_an_error(tmp_path: Path, byte_tokenizer: Any) -> None:
    file = tmp_path / "generations.jsonl"
    file.write_text('{"step": 1}\n')
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    with pytest.raises(CheckpointError) as error:
        read_probes(tmp_path, byte_tokenizer, template)
    assert error.value.key == str(file)


def test_read_probes_for_reward_model_uses_the_probe_answers(byte_tokenizer: Any) -> None:
    (probe,), description = read_probes(Path("nowhere"), byte_tokenizer, None, scored=True)
    texts = [byte_tokenizer.decode(ids) for ids in probe]
    assert texts == [f"{PROBE_PROMPT} {answer}" for answer in PROBE_ANSWERS]
    assert description == "6 built-in answers"
