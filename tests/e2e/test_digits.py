"""A tiny LLaVA that is joined from parts learns to read handwritten digits: the quick twin of configs/smollm2_vision.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers.digits import DIGITS, QUESTION, write_digits
from helpers.tiny import records, save_tiny

from xft.evaluation import generate_answers
from xft.evaluation.prompts import EvalPrompt
from xft.evaluation.scorers import exact
from xft.serving.session import open_session
from xft.templates import SOURCES
from xft.training.train import TrainOptions, train

_SIDE = 16
_CONFIG = """
model = dict(type="llava", path={language!r}, vision={encoder!r}, dtype="float32", vision_feature_layer=-1,
             train=dict(vision="full", projector="full", language="full"))
data = dict(type="instruction", path={train!r}, format="openai", max_length=64, val_split={val!r}, num_workers=1)
training = dict(max_steps=200, micro_batch_size=8, max_grad_norm=1.0)
optimizer = dict(type="adamw", lr=2e-3)
lr_scheduler = dict(type="cosine")
hooks = dict(validation=dict(type="validation", interval=200))
loggers = dict(jsonl=dict(type="jsonl"))
"""


def save_encoder(folder: Path) -> Path:
    """A tiny vision transformer with random weights, and a processor for images of its size."""
    torch.manual_seed(1)
    config = transformers.SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, patch_size=4, image_size=_SIDE
    )  # fmt: skip
    transformers.SiglipVisionModel(config).save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": _SIDE, "width": _SIDE}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of digits: rows to train on, and others."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder, "train", 400, _SIDE, seed=0)
    write_digits(folder, "val", 40, _SIDE, seed=1)
    return folder


@pytest.fixture(scope="module")
def run(rows: Path, tmp_path_factory: pytest.TempPathFactory, make_byte_tokenizer: Any) -> Path:
    """A trained run."""
    folder = tmp_path_factory.mktemp("run")
    names = {
        "language": str(save_tiny(folder / "llama", "llama", make_byte_tokenizer(SOURCES["chatml"]))),
        "encoder": str(save_encoder(folder / "siglip")),
        "train": str(rows / "train.jsonl"),
        "val": str(rows / "val.jsonl"),
    }
    config = folder / "config.py"
    config.write_text(_CONFIG.format(**names), encoding="utf-8")
    return train(TrainOptions(str(config), str(folder / "run")))


def prompts(rows: Path) -> list[EvalPrompt]:
    """A question about each held-out picture, with the digit as its reference."""
    lines = (rows / "val.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        EvalPrompt(QUESTION, row["messages"][1]["content"], images=(str(rows / row["images"][0]),))
        for row in map(json.loads, lines)
    ]


def test_held_out_digits_are_read(run: Path, rows: Path) -> None:
    results = generate_answers(open_session(str(run)).generator, prompts(rows), exact, 4)
    right = sum(result.score or 0 for result in results)
    assert right >= 0.8 * len(results), [(result.question.reference, result.answer) for result in results]
    before, *_, after = records(run, "val")
    assert after["loss"] < before["loss"] / 2


def test_answers_follow_the_picture_that_is_shown(run: Path, rows: Path) -> None:
    """With the picture of another digit, the answer is that digit: it does not come from the question."""
    asked = prompts(rows)
    shown = asked[1:] + asked[:1]
    swapped = [EvalPrompt(QUESTION, other.reference, images=other.images) for other in shown]
    results = generate_answers(open_session(str(run)).generator, swapped, exact, 4)
    assert sum(result.score or 0 for result in results) >= 0.8 * len(results)
    kept = sum(result.answer == prompt.reference for result, prompt in zip(results, asked, strict=True))
    assert kept <= 0.2 * len(results)
    assert len(DIGITS) == len({prompt.reference for prompt in asked})
