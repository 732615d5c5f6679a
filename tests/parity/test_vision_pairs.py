"""Preference pairs with images: losses of packed pairs equal those of each answer alone in transformers' forward."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pictures import encoded, picture
from helpers.vision import save_vision_model
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.testing import assert_close
from transformers import AutoConfig

from xft.compat.processors import load_processor
from xft.data import Collator, PreferenceData, formats
from xft.models import LoRA, VisionLanguageConfig
from xft.objectives import DPO, ORPO
from xft.templates import ChatTemplate
from xft.types import IGNORE_INDEX, Row

BETA = 0.3


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of a family."""
    return save_vision_model(tmp_path_factory.mktemp(request.param) / request.param, request.param)


def write_pairs(folder: Path) -> list[Row]:
    """Pairs with one image, two and none; the last pair differs from the first in its image alone."""
    rows: list[Row] = []
    for number, images in enumerate([["0.png"], ["0.png", "1.png"], [], ["2.png"]]):
        question = "".join("<image>\n" for _ in images) + f"what is {number % 3}?"
        rows.append(
            {
                "prompt": question,
                "chosen": f"a {'very ' * (number % 3)}cat",
                "rejected": "no",
                "images": images,
            }
        )
    for seed in range(3):
        (folder / f"{seed}.png").write_bytes(encoded(picture(24, 30, seed)))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "pairs.jsonl").write_text(text, encoding="utf-8")
    return rows


def official_log_prob(
    model: Any, folder: Path, data: Path, row: Row, labels: Tensor, answer: str
) -> Tensor:
    """The log-probability of an answer, by the processor and the forward pass of transformers."""
    from PIL import Image

    processor: Any = load_processor(str(folder), AutoConfig.from_pretrained(folder))
    texts = row["prompt"].replace("<image>\n", "")
    parts = [*({"type": "image"} for _ in row["images"]), {"type": "text", "text": texts}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": row[answer]}]
    images = [Image.open(data / name) for name in row["images"]]
    text = processor.apply_chat_template(turns, tokenize=False)
    inputs = processor(images=[images] if images else None, text=[text], return_tensors="pt")
    logits = model(**inputs, use_cache=False).logits[0, :-1].log_softmax(-1)
    shifted = labels[1:]
    kept = shifted != IGNORE_INDEX
    return logits[kept].gather(-1, shifted[kept, None]).sum()


def test_losses_of_packed_pairs_equal_those_of_answers_alone(folder: Path, tmp_path: Path) -> None:
    rows = write_pairs(tmp_path)
    spec = VisionLanguageConfig(str(folder), dtype="float32", attn_implementation="auto")
    torch.manual_seed(0)
    loaded = spec.load(spec.load_tokenizer(), torch.device("cpu"), LoRA(r=4, lora_alpha=8))
    model: Any = loaded.model.eval()
    with torch.no_grad():
        for name, param in model.named_parameters():
            if "lora_B" in name:
                param.normal_(0, 0.3)

    data = PreferenceData(str(tmp_path / "pairs.jsonl"), format=formats.preference, val_split=None)
    prepared = data.prepare(loaded.tokenizer, ChatTemplate().bind(loaded.tokenizer), loaded.processor)
    samples = prepared.train
    assert [len(sample.images) for sample in samples] == [1, 1, 2, 2, 0, 0, 1, 1]
    assert prepared.report.images["images"] == 8

    ratios, log_probs, lengths = [], [], []
    with torch.no_grad():
        for row, chosen, rejected in zip(rows, samples[::2], samples[1::2], strict=True):
            for sample, answer in ((chosen, "chosen"), (rejected, "rejected")):
                labels = torch.from_numpy(sample.labels).long()
                policy = official_log_prob(model, folder, tmp_path, row, labels, answer)
                with model.disable_adapter():
                    before = official_log_prob(model, folder, tmp_path, row, labels, answer)
                ratios.append(policy - before)
                log_probs.append(policy)
                lengths.append(sample.num_targets)
    ratio = torch.stack(ratios)
    expected = -logsigmoid(BETA * (ratio[::2] - ratio[1::2]))
    assert abs(float(log_probs[0] - log_probs[6])) > 1e-3  # the image alone differs

    dpo = DPO(beta=BETA)
    orpo = ORPO()
    for packing in (loaded.supports_packing, False):
        collator = Collator.for_model(loaded.tokenizer, packing, 2, loaded.processor)
        batch = collator.collate(samples, range(4))
        assert len(set(batch.sample_hashes)) == 8
        with torch.no_grad():
            output = dpo(model, batch)
            assert_close(output.loss_sum / 4, expected.mean(), rtol=1e-5, atol=1e-6)
            alone = [orpo(model, collator.collate(samples, [number])).loss_sum for number in range(4)]
            assert_close(orpo(model, batch).loss_sum, torch.stack(alone).sum(), rtol=1e-5, atol=1e-6)
