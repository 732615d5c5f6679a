"""Images of stores: files and bytes, chunks, the cache, and rows of conversations that show them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.fake_images import FakeProcessor
from helpers.pictures import encoded, picture
from helpers.rows import assert_balanced

from xft.data import InstructionData, Mixture, PreparedData, formats
from xft.data.images.reading import read_pixels
from xft.data.store.image_store import ImageStore, ImageStoreWriter, ImageTable
from xft.errors import DataError
from xft.templates import BoundTemplate
from xft.types import IGNORE_INDEX, Image, Row

PATH = Image("/x/a.png", b"", "", 4, 5, 6, 7)
DATA = Image("", b"contents", "", 8, 9, 10, 0)


def question(*names: str, text: str = "<image>") -> Row:
    """A row whose question shows some images."""
    turns = [{"role": "user", "content": text * len(names)}, {"role": "assistant", "content": "A cat."}]
    return {"messages": turns, "images": list(names)}


def write_rows(folder: Path, rows: list[Row]) -> Path:
    """Write rows as JSON lines."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prepare(path: Path, template: BoundTemplate, **options: Any) -> PreparedData:
    """Prepare rows for a model that sees images."""
    values: dict[str, Any] = {"format": formats.openai, "val_split": None, "max_length": 4096, **options}
    return InstructionData(str(path), **values).prepare(template.tokenizer, template, FakeProcessor())


def test_store_returns_the_images_of_each_sample(tmp_path: Path) -> None:
    writer = ImageStoreWriter(tmp_path)
    for images in ([PATH, DATA], [], [DATA]):
        table = ImageTable()
        for image in images:
            table.add(image)
        writer.append(*table.arrays())
    writer.close()
    store = ImageStore(tmp_path, np.array([1, 0, 2], dtype=np.int32))
    assert len(store) == 3
    assert [store.of_sample(index) for index in range(3)] == [(PATH,), (), (DATA, DATA)]
    with pytest.raises(ValueError, match="3 images for 2"):
        ImageStore(tmp_path, np.array([1, 1], dtype=np.int32))


def test_store_without_images_has_no_files(tmp_path: Path) -> None:
    writer = ImageStoreWriter(tmp_path)
    writer.append(*ImageTable().arrays())
    writer.close()
    assert list(tmp_path.iterdir()) == []
    assert ImageStore(tmp_path, np.zeros(2, dtype=np.int32)).of_sample(1) == ()


def test_rows_are_encoded_with_the_tokens_of_their_images(tmp_path: Path, chatml: BoundTemplate) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(4, 5)))
    (tmp_path / "b.png").write_bytes(encoded(picture(6, 4)))
    rows = [question("a.png"), question("a.png", "b.png"), question()]
    rows[2]["messages"][0]["content"] = "Hi"
    prepared = prepare(write_rows(tmp_path, rows), chatml)
    first, second, third = prepared.train
    tokenizer: Any = chatml.tokenizer
    assert tokenizer.decode(second.input_ids).count("<img>") == 4 * 5 + 6 * 4
    assert [image.size for image in second.images] == [(4, 5), (6, 4)]
    assert [image.path for image in first.images] == [str(tmp_path / "a.png")]
    assert third.images == ()
    targets = [tokenizer.decode(sample.labels[sample.labels != IGNORE_INDEX]) for sample in (first, second)]
    assert targets == ["A cat.<|im_end|>"] * 2
    assert prepared.report.images["images"] == 3
    assert_balanced(prepared.report, 3)


def test_bytes_in_a_table_are_stored(tmp_path: Path, chatml: BoundTemplate) -> None:
    data = [encoded(picture(4, 5, seed=seed)) for seed in range(2)]
    turns = question("x")["messages"]
    rows = [{"messages": turns, "images": [{"bytes": item, "path": None}]} for item in data]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    prepared = prepare(tmp_path / "rows.parquet", chatml)
    images = [sample.images[0] for sample in prepared.train]
    assert [image.data for image in images] == data
    assert np.array_equal(np.asarray(read_pixels(images[1])), np.asarray(picture(4, 5, seed=1)))
    assert prepared.report.exact_duplicates == 0  # same text and size, another picture


def test_same_picture_is_a_duplicate(tmp_path: Path, chatml: BoundTemplate) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded(picture(4, 5)))
    prepared = prepare(write_rows(tmp_path, [question("a.png"), question("b.png")]), chatml)
    assert prepared.report.exact_duplicates == 1


def test_changed_image_is_prepared_again(tmp_path: Path, chatml: BoundTemplate) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(4, 5)))
    path = write_rows(tmp_path, [question("a.png")])
    before = prepare(path, chatml).train
    assert prepare(path, chatml).train.parts[0][0].folder == before.parts[0][0].folder
    (tmp_path / "a.png").write_bytes(encoded(picture(5, 7)))
    assert prepare(path, chatml).train[0].images[0].size == (5, 7)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError) as caught:
        prepare(path, chatml)
    assert caught.value.key == "images[1]"


def test_images_of_another_folder_are_read(tmp_path: Path, chatml: BoundTemplate) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(picture(4, 5)))
    path = write_rows(tmp_path, [question("a.png")])
    with pytest.raises(DataError):
        prepare(path, chatml)
    assert prepare(path, chatml, image_folder=str(folder)).train[0].images[0].size == (4, 5)


def test_rows_with_bad_images_are_quarantined_with_line_and_field(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(4, 5)))
    (tmp_path / "bad.png").write_bytes(encoded(picture(4, 5))[:40])
    rows = [question("a.png"), question("bad.png"), question("gone.png"), question("a.png", text="What?")]
    rows.append(question("a.png", text="<image> <img>"))
    path = write_rows(tmp_path, rows)
    with pytest.raises(DataError) as caught:
        prepare(path, chatml)
    assert str(caught.value).startswith(f"{path}:2: field images[1]: ")
    report = prepare(path, chatml, on_invalid="quarantine").report
    assert [entry["line"] for entry in report.quarantined] == [2, 3, 4, 5]
    assert_balanced(report, 5)


def test_overlong_row_loses_whole_exchanges_and_no_part_of_an_image(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(4, 5)))
    long = {"role": "user", "content": "word " * 60}
    answer = {"role": "assistant", "content": "Yes."}
    shown = {"role": "user", "content": "<image>" + "What is it? " * 10}
    rows = [
        {"messages": [long, answer, shown, answer], "images": ["a.png"]},  # the first exchange is removed
        {
            "messages": [shown, answer, long, answer],
            "images": ["a.png"],
        },  # the image is removed with its exchange
        {"messages": [shown, answer], "images": ["a.png"]},
    ]
    options = {"on_overlong": "truncate", "max_overlong_fraction": 1.0, "max_length": 300}
    prepared = prepare(write_rows(tmp_path, rows), chatml, **options)
    tokenizer: Any = chatml.tokenizer
    texts = [tokenizer.decode(sample.input_ids) for sample in prepared.train]
    assert [text.count("<img>") for text in texts] == [20, 0, 20]
    assert [len(sample.images) for sample in prepared.train] == [1, 0, 1]
    shorter = prepare(
        write_rows(tmp_path, [*rows[2:], question()]), chatml, **{**options, "max_length": 200}
    )
    assert shorter.report.rows_dropped["longer than max_length"] == 1


def test_text_model_refuses_images(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write_rows(tmp_path, [question("a.png")])
    data = InstructionData(str(path), format=formats.openai, val_split=None)
    for dataset in (data, Mixture({"a": data})):
        with pytest.raises(DataError) as caught:
            dataset.prepare(chatml.tokenizer, chatml)
        assert caught.value.got == "a.png"
