"""Vision-language models: tokens and pixels of the official processor, and losses of transformers' own forward."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pictures import encoded, picture
from helpers.vision import FAMILIES, save_vision_model
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForImageTextToText

from xft.compat.processors import load_processor
from xft.data import Collator, InstructionData, SampleView, formats
from xft.models import LoadedModel, LoRA, VisionLanguageConfig, target_loss
from xft.models.adapters.merging import merge
from xft.models.saved_model import ModelMetadata, load_saved_model, save_model
from xft.templates import ChatTemplate
from xft.types import IGNORE_INDEX, Row

RELATIVE = 1e-5
"""Relative tolerance of a loss in fp32, summed over some hundred tokens in another order."""
UNPACKED = {"gemma3"}
"""Families in which an image attends to its later tokens, which packed attention does not compute."""
WORDS = ("what", "is", "the", "color", "of", "this", "picture", "a", "cat", "Ünï", "\n", "7")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of a family."""
    return save_vision_model(tmp_path_factory.mktemp(request.param) / request.param, request.param)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    """The model of a family, as a config without an adapter loads it."""
    return load(folder)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Any:
    """The model of a family, as transformers loads it."""
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


def random_rows(count: int, seed: int = 0) -> list[Row]:
    """Rows with zero to three images in one to three questions, at random places."""
    choose = random.Random(seed)
    rows = []
    for number in range(count):
        turns, images = [], []
        for _ in range(choose.randint(1, 3)):
            parts: list[Any] = []
            for _ in range(choose.randint(1, 3)):
                if choose.random() < 0.4:
                    size = choose.randint(9, 70), choose.randint(9, 70)
                    images.append(
                        {"bytes": encoded(picture(*size, seed=choose.randrange(99))), "path": None}
                    )
                    parts.append({"type": "image"})
                parts.append(
                    {"type": "text", "text": " ".join(choose.choices(WORDS, k=choose.randint(1, 5)))}
                )
            answer = " ".join(choose.choices(WORDS[:9], k=choose.randint(1, 9)))
            reply = [{"type": "text", "text": answer}]
            turns += [{"role": "user", "content": parts}, {"role": "assistant", "content": reply}]
        rows.append({"messages": turns, "images": images, "number": number})
    return rows


def load(folder: Path, adapter: LoRA | None = None, **options: Any) -> LoadedModel:
    """The model of a folder, as a config declares it."""
    spec = VisionLanguageConfig(str(folder), dtype="float32", **options)
    return spec.load(spec.load_tokenizer(), torch.device("cpu"), adapter)


def prepare(loaded: LoadedModel, rows: list[Row], folder: Path) -> SampleView:
    """The rows, encoded for a model."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    data = InstructionData(
        str(folder / "rows.parquet"), format=formats.openai, val_split=None, max_length=4096
    )
    template = ChatTemplate().bind(loaded.tokenizer)
    return data.prepare(loaded.tokenizer, template, loaded.processor).train


def official(folder: Path, row: Row) -> dict[str, Any]:
    """The inputs that transformers makes of a row."""
    from io import BytesIO

    from PIL import Image

    processor: Any = load_processor(str(folder), AutoConfig.from_pretrained(folder))
    images = [Image.open(BytesIO(image["bytes"])) for image in row["images"]]
    text = processor.apply_chat_template(row["messages"], tokenize=False)
    inputs = processor(images=[images] if images else None, text=[text], return_tensors="pt")
    return dict(inputs)


def test_tokens_and_pixels_equal_those_of_the_official_processor(
    folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    rows = random_rows(8)
    assert loaded.processor is not None
    for sample, row in zip(prepare(loaded, rows, tmp_path), rows, strict=True):
        expected = official(folder, row)
        assert sample.input_ids.tolist() == expected["input_ids"][0].tolist()
        inputs = loaded.processor.model_inputs([sample], None)
        for name, value in inputs.model_inputs.items():
            assert torch.equal(value, expected[name]), name
        assert ("pixel_values" in inputs.model_inputs) == bool(row["images"])
        assert not set(sample.labels.tolist()) & loaded.processor.token_ids


def loss_alone(model: Any, inputs: dict[str, Any], labels: torch.Tensor) -> float:
    """The loss of transformers' own forward of one sample, summed over its targets."""
    with torch.no_grad():
        loss = model(**inputs, labels=labels, use_cache=False).loss
    return float(loss) * int((labels[:, 1:] != IGNORE_INDEX).sum())


def test_packed_and_padded_losses_equal_those_of_samples_alone(
    folder: Path, loaded: LoadedModel, plain: Any, tmp_path: Path
) -> None:
    rows = random_rows(5, seed=3)
    assert {len(row["images"]) for row in rows} >= {0, 1}
    samples = prepare(loaded, rows, tmp_path)
    assert loaded.supports_packing == (folder.name not in UNPACKED)
    expected = [
        loss_alone(plain, official(folder, row), torch.from_numpy(sample.labels).long()[None])
        for row, sample in zip(rows, samples, strict=True)
    ]
    model = loaded.model.eval()
    for packing in {loaded.supports_packing, False}:
        collator = Collator.for_model(loaded.tokenizer, packing, processor=loaded.processor)
        batch = collator.collate(samples, range(len(rows)))
        with torch.no_grad():
            loss, _, count = target_loss(model, batch)
        assert count == sum(sample.num_targets for sample in samples)
        assert_close(float(loss), sum(expected), rtol=RELATIVE, atol=0)


def test_text_rows_alone_have_the_loss_of_the_text_model(
    folder: Path, loaded: LoadedModel, plain: Any, tmp_path: Path
) -> None:
    rows = [row | {"images": []} for row in random_rows(3, seed=5)]
    for row in rows:
        for turn in row["messages"]:
            turn["content"] = [part for part in turn["content"] if part["type"] == "text"]
    samples = prepare(loaded, rows, tmp_path)
    expected = sum(
        loss_alone(plain, official(folder, row), torch.from_numpy(sample.labels).long()[None])
        for row, sample in zip(rows, samples, strict=True)
    )
    collator = Collator.for_model(loaded.tokenizer, loaded.supports_packing, processor=loaded.processor)
    with torch.no_grad():
        loss, _, _ = target_loss(loaded.model.eval(), collator.collate(samples, range(3)))
    assert_close(float(loss), expected, rtol=RELATIVE, atol=0)


def test_adapter_and_projector_are_trained_saved_merged_and_reloaded(folder: Path, tmp_path: Path) -> None:
    rows = random_rows(4, seed=3)
    torch.manual_seed(0)
    loaded = load(folder, LoRA(r=4, lora_alpha=8), train={"projector": "full"}, lr={"projector": 1e-2})
    samples = prepare(loaded, rows, tmp_path)
    model = loaded.model
    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    trainable = [param for param in model.parameters() if param.requires_grad]
    collator = Collator.for_model(loaded.tokenizer, loaded.supports_packing, processor=loaded.processor)
    batch = collator.collate(samples, range(4))
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss, _, count = target_loss(model.train(), batch)
        (loss / count).backward()
        optimizer.step()
    changed = {name for name, param in model.named_parameters() if not torch.equal(param, before[name])}
    assert any("lora_" in name for name in changed)
    assert any("modules_to_save" in name for name in changed)
    assert all("lora_" in name or "modules_to_save" in name for name in changed)
    adapted = {name for name in changed if "lora_" in name}
    decoder = loaded.base.get_decoder()
    inside = {name for name, module in loaded.base.named_modules() if module is decoder}
    assert all(any(f".{outer}." in name for outer in inside) for name in adapted)

    saved, metadata = tmp_path / "adapter", ModelMetadata(str(folder), "float32")
    saved.mkdir()
    save_model(model, loaded.tokenizer, None, metadata, saved)
    inputs = official(folder, rows[0])
    with torch.no_grad():
        live = model.eval()(**inputs).logits
        reloaded = load_saved_model(str(saved))
        assert reloaded.processor is not None
        assert reloaded.supports_packing == loaded.supports_packing
        assert_close(reloaded.model.eval()(**inputs).logits, live)
        merged_folder = tmp_path / "merged"
        merged_folder.mkdir()
        save_model(merge(model), loaded.tokenizer, None, metadata, merged_folder)
        plain = AutoModelForImageTextToText.from_pretrained(merged_folder, dtype=torch.float32).eval()
        assert_close(plain(**official(merged_folder, rows[0])).logits, live, rtol=1e-4, atol=1e-4)
    assert json.loads((merged_folder / "config.json").read_text())["model_type"] == plain.config.model_type
